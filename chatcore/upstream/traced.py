"""A span around each request to n8n, whose context n8n is sent; other addresses are left alone."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from urllib.parse import urlsplit

from chatcore.spans import Span, current
from chatcore.tracing import Tracer
from chatcore.upstream.transport import Answer, CutError, Post, Transport, TransportError

_FAILED = 400
_PORTS = {"http": 80, "https": 443}


class TracedTransport:
    """A transport with a span around each request to one of `webhooks`."""

    def __init__(self, transport: Transport, tracer: Tracer, webhooks: Collection[str]) -> None:
        self._transport = transport
        self._tracer = tracer
        self._webhooks = webhooks

    def to(self, url: str, headers: Mapping[str, str]) -> Post:
        """Prepare an address. Of n8n's no more than host and port are told: the path is to stay private."""
        send = self._transport.to(url, headers)
        if url not in self._webhooks:
            return send
        address, tracer = urlsplit(url), self._tracer
        about: dict[str, str | int] = {
            "http.request.method": "POST",
            "server.address": address.hostname or "",
            "server.port": address.port or _PORTS[address.scheme],
        }

        async def post(more: Mapping[str, str], body: bytes | AsyncIterator[bytes]) -> Answer:
            span = tracer.begin("POST", "client", current.get(), dict(about))
            try:
                answer = await send({**more, **span.context.headers}, body)
            except asyncio.CancelledError:  # stopped, or too late: the reply's span tells
                tracer.event(span, "chatcore.cancelled")
                tracer.end(span)
                raise
            except Exception as error:
                tracer.end(span, str(error) if isinstance(error, TransportError) else type(error).__name__)
                raise
            span.attributes["http.response.status_code"] = answer.status
            return _TracedAnswer(answer, span, tracer)

        return post

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()


class _TracedAnswer:
    """An answer whose span ends when it is released."""

    __slots__ = ("_answer", "_error", "_span", "_tracer", "content_type", "status")

    def __init__(self, answer: Answer, span: Span, tracer: Tracer) -> None:
        self._answer = answer
        self._span: Span | None = span
        self._tracer = tracer
        self._error = str(answer.status) if answer.status >= _FAILED else None
        self.status = answer.status
        self.content_type = answer.content_type

    @property
    def broken(self) -> bool:
        return self._answer.broken

    async def read(self) -> bytes:
        try:
            return await self._answer.read()
        except CutError as error:
            self._error = str(error)
            raise

    def release(self) -> None:
        span, self._span = self._span, None
        if span is not None:
            self._tracer.end(span, self._error or ("broken" if self._answer.broken else None))
        self._answer.release()
