"""A reply as OpenAI's chat completion: chunks of a stream or one document, and the list of models.

Shapes of OpenAI's API, version 1 (`chat.completion`, `chat.completion.chunk`, `model`), as its SDK 3.57 reads them.
Texts must hold no lone surrogates; the decoding half lets none through.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from chatcore.error_shapes import openai_error
from chatcore.model import Delta, Outcome
from chatcore.wire.encode_document import join_text
from chatcore.wire.encode_sse import PING
from chatcore.wire.stop_sequences import StopSearch, cut

_TOKEN_BYTES = 4


class Completion(msgspec.Struct, frozen=True):
    """What all answers to one request share. `created` is in epoch seconds, `prompt_tokens` an estimate."""

    id: str
    model: str
    created: int
    prompt_tokens: int
    stop: tuple[str, ...] = ()
    include_usage: bool = False


class Chunks:
    """One reply as a stream of chunks; implements `delivery.StreamForm`."""

    headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no"))
    heartbeat = PING

    def __init__(self, about: Completion) -> None:
        self._about = about
        self._search = StopSearch(about.stop)
        self._said_bytes = 0
        head = {"id": about.id, "object": "chat.completion.chunk", "created": about.created, "model": about.model}
        # Where usage is asked for, every chunk has the member; only the last one has figures in it.
        self._begin = _ENCODE(head)[:-1] + (b',"usage":null' if about.include_usage else b"")

    def begin(self) -> bytes:
        """Give the chunk that tells who speaks."""
        return self._chunk(b'{"role":"assistant","content":""}', b"null")

    def deltas(self, first: int, deltas: Sequence[Delta]) -> bytes:  # noqa: ARG002 - chunks have no numbers
        """Give a batch of text as one chunk; nothing where all of it is held back or behind a stop sequence."""
        return self._text(self._search.feed(join_text(deltas)))

    def end(self, last: int, outcome: Outcome) -> bytes:  # noqa: ARG002 - chunks have no numbers
        """Give what was held back, the reason of the end or the error, and the end of the stream."""
        said = self._text(self._search.rest())
        if outcome.refusal is not None and not self._search.found:
            return said + b"data: " + _ENCODE(openai_error(outcome.refusal)) + b"\n\n" + _DONE
        said += self._chunk(b"{}", b'"stop"')
        if self._about.include_usage:
            figures = _ENCODE(_usage(self._about.prompt_tokens, self._said_bytes))
            begin = self._begin.replace(b',"usage":null', b"")
            said += b"data: " + begin + b',"choices":[],"usage":' + figures + b"}\n\n"
        return said + _DONE

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        self._said_bytes += len(text.encode())
        return self._chunk(b'{"content":' + _ENCODE(text) + b"}", b"null")

    def _chunk(self, delta: bytes, finish_reason: bytes) -> bytes:
        return _CHUNK % (self._begin, delta, finish_reason)


def encode_completion(about: Completion, text: str, outcome: Outcome) -> bytes:
    """Give the document. A reply that failed after its status was sent has the member `error` in it."""
    shown = cut(text, about.stop)
    failed = outcome.refusal if shown == text else None
    document: dict[str, Any] = {
        "id": about.id,
        "object": "chat.completion",
        "created": about.created,
        "model": about.model,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": shown if shown or failed is None else None,
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop" if failed is None else "error",
            }
        ],
        "usage": _usage(about.prompt_tokens, len(shown.encode())),
    }
    return _ENCODE(document if failed is None else {**document, **openai_error(failed)})


def model(name: str, created: int) -> dict[str, Any]:
    """Give what is told of one bot; `created` is in epoch seconds."""
    return {"id": name, "object": "model", "created": created, "owned_by": "chatcore"}


def models(names: Iterable[str], created: int) -> dict[str, Any]:
    """Give the list of all bots."""
    return {"object": "list", "data": [model(name, created) for name in names]}


def _usage(prompt: int, said_bytes: int) -> dict[str, int]:
    said = -(-said_bytes // _TOKEN_BYTES)
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


_ENCODE = msgspec.json.Encoder().encode
_CHUNK = b'data: %b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]}\n\n'
_DONE = b"data: [DONE]\n\n"
