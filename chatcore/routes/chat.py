"""The native chat contract: send, resume, stop (docs/http-api.md)."""

from collections.abc import Sequence

from chatcore.asgi import (
    JSON,
    Header,
    Receive,
    Scope,
    Send,
    Visit,
    connection_of,
    read_body,
    respond,
    respond_json,
    visit_of,
)
from chatcore.errors import INVALID_REQUEST, REPLY_GONE, FieldFault, Refusal, problem
from chatcore.gate import Gate
from chatcore.intake import ChatRequest, check_message_id, media_type, parse_chat
from chatcore.live import Live, Reader
from chatcore.model import Caller, Delta, Outcome, Turn
from chatcore.observe import Decided, Observer, ReplyJoined
from chatcore.ports import Clock, ReplyText
from chatcore.proxy import Proxy
from chatcore.ratelimit import Limits, Standing
from chatcore.settings import IntakeSettings
from chatcore.wire.encode_document import encode_document, join_text
from chatcore.wire.encode_sse import PING, encode_deltas, encode_done, encode_error, encode_start

EVENT_STREAM: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
)
NO_TRANSFORM: Header = (b"cache-control", b"no-cache, no-transform")
WHITE_SPACE = b" \n"
_FIRST = 1  # the number of the start event
_ALL = 1 << 40


class ChatRoutes:
    """Handlers of `/api/v1/chat` and below."""

    def __init__(
        self, gate: Gate, proxy: Proxy, limits: Limits, settings: IntakeSettings, clock: Clock, observer: Observer
    ) -> None:
        self._gate = gate
        self._proxy = proxy
        self._live: Live = proxy.live
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._observer = observer

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /api/v1/chat: start a reply or join it, and give it as a stream or as one document."""
        visit = visit_of(scope)
        client = self._gate.client(scope)
        admitted = await self._gate.try_address(client)
        try:
            caller = await self._gate.caller(visit)
            admitted = await self._gate.of_bot(client, caller.bot, admitted)
            media_type(visit.given.get(b"content-type"))
            request = parse_chat(await read_body(visit, receive, self._settings.max_body_bytes), self._settings)
            record = None
            if request.message_id is not None:
                record = await self._live.log.find((caller.session_id, request.message_id), request.message)
        except Refusal as refusal:
            # Whoever is over the limit learns just that; only a retry of a reply that exists passes.
            if isinstance(admitted, Refusal):
                raise admitted from None
            if admitted is not None:
                visit.headers.extend(admitted.headers())
            raise refusal from None
        if record is not None:
            if not isinstance(admitted, Refusal):
                await self._gate.give_back(client, caller.bot)
            self._observer(ReplyJoined("retry"))
        elif isinstance(admitted, Refusal):
            raise admitted
        else:
            record, standing = await self._start(visit, caller, request, client.limit_key)
            tightest = standing if admitted is None else admitted.merge(standing)
            if tightest is not None:
                visit.headers.extend(tightest.headers())
        if _wants_stream(visit):
            await self._stream(scope, send, record, 0, decide=True)
        else:
            await self._document(scope, send, record)

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/chat/{message_id}: go on behind `Last-Event-ID`, or tell how the reply stands."""
        visit = visit_of(scope)
        record = await self._own_reply(scope, visit)
        after = _last_event_id(visit)
        await self._live.catch_up(record, after)
        outcome = record.outcome
        self._observer(ReplyJoined("resume"))
        if _wants_stream(visit):
            if outcome is not None and after >= _last_event(record, outcome):
                await respond(send, 204, b"")
            else:
                await self._stream(scope, send, record, after, decide=False)
        elif outcome is None:
            await respond_json(send, 202, {"status": "running"}, (b"retry-after", b"1"))
        else:
            await respond(send, 200, self._encode(visit, record, outcome), JSON)

    async def stop(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """DELETE /api/v1/chat/{message_id}: stop a running reply; fine when it has ended."""
        record = await self._own_reply(scope, visit_of(scope))
        await self._live.stop(record.turn_key)
        await respond(send, 204, b"")

    async def _start(
        self, visit: Visit, caller: Caller, request: ChatRequest, limit_key: str
    ) -> tuple[ReplyText, Standing | None]:
        self._live.admit()
        standing = await self._limits.admit_session(caller.session_id, caller.bot, limit_key)
        origin = visit.given.get(b"origin")
        turn = Turn(
            session_id=caller.session_id,
            bot=caller.bot,
            message_id=request.message_id or _fresh_uuid(self._clock.token_bytes(16)),
            text=request.message,
            received_at=self._clock.now(),
            origin=None if origin is None else origin.decode("latin-1"),
            page_url=request.page_url,
            user_agent=visit.user_agent,
            user=caller.user,
            metadata=request.metadata,
            history=request.history,
        )
        if self._observer.debugging:
            if standing is not None:
                self._observer(Decided("session and day limit", f"{standing.remaining} of {standing.limit} left"))
            self._observer(Decided("chat", f"message of {len(turn.text)} characters accepted for bot {turn.bot}"))
        try:
            return await self._proxy.send(turn), standing
        except Refusal:
            await self._limits.give_back_session(caller.session_id, caller.bot, limit_key)
            raise

    async def _own_reply(self, scope: Scope, visit: Visit) -> ReplyText:
        caller = await self._gate.caller(visit)
        record = await self._live.log.find((caller.session_id, message_id_of(scope)))
        if record is None:
            raise Refusal(REPLY_GONE)
        return record

    async def _stream(self, scope: Scope, send: Send, record: ReplyText, after: int, *, decide: bool) -> None:
        """Write the reply as server-sent events. With `decide` a failure before any text has its real status."""
        asked = after
        after = min(after, _FIRST + record.count())  # nobody can have read what was never said
        visit = visit_of(scope)
        session_id, message_id = record.turn_key
        begun = b"" if after >= _FIRST else encode_start(message_id, session_id)
        connection = connection_of(scope)

        def push(first: int, deltas: Sequence[Delta]) -> bool:
            return connection is not None and connection.push(encode_deltas(first, deltas))

        with self._live.follow(record, after, connection) as reader:
            what = await reader.next() if decide else ()
            if isinstance(what, Outcome) and what.refusal is not None:
                raise _with_content(what.refusal, record)
            # A stream may stay open for minutes: what the client sent is no longer needed.
            scope["headers"] = ()
            visit.given.clear()
            _not_cached(visit)
            await send({"type": "http.response.start", "status": 200, "headers": list(EVENT_STREAM)})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            if begun and not isinstance(what, Outcome) and not what:
                await _write(reader, send, begun)
                begun = b""
            while not isinstance(what, Outcome):
                if what is None:
                    await _write(reader, send, PING)
                elif what:
                    first = reader.position - len(what) + 1
                    await _write(reader, send, begun + encode_deltas(first, what))
                    begun = b""
                if connection is not None and not begun:
                    reader.push = push
                what = await self._next(reader, record)
            # A reply dropped for lack of memory no longer knows how long it was; its reader does.
            last = max(_last_event(record, what), reader.position + 1 + (what.refusal is not None))
            end = encode_done(last, message_id, what.finish_reason, what.duration_ms)
            if what.refusal is not None and asked < last - 1:
                end = encode_error(last - 1, problem(what.refusal, visit.request_id)) + end
            await send({"type": "http.response.body", "body": begun + end})

    async def _next(self, reader: Reader, record: ReplyText) -> Sequence[Delta] | Outcome | None:
        """Wait for what follows; a reply that was dropped meanwhile ends here with an error."""
        try:
            return await reader.next()
        except Refusal as gone:
            duration_ms = round((self._clock.monotonic() - record.created) * 1000)
            return Outcome(finish_reason="error", duration_ms=duration_ms, refusal=gone)

    async def _document(self, scope: Scope, send: Send, record: ReplyText) -> None:
        """Write the reply as one JSON document, white space before it where it takes long."""
        visit = visit_of(scope)
        begun = False
        with self._live.follow(record, 0, connection_of(scope), whole=True) as reader:
            while True:
                outcome = await reader.next()
                if isinstance(outcome, Outcome):
                    break
                if not begun:
                    await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
                    begun = True
                await _write(reader, send, WHITE_SPACE)
        if outcome.refusal is not None and not begun:
            raise _with_content(outcome.refusal, record)
        body = self._encode(visit, record, outcome)
        if begun:
            await send({"type": "http.response.body", "body": body})
        else:
            await respond(send, 200, body, JSON)

    def _encode(self, visit: Visit, record: ReplyText, outcome: Outcome) -> bytes:
        failed = None if outcome.refusal is None else problem(outcome.refusal, visit.request_id)
        session_id, message_id = record.turn_key
        text = join_text(record.read(0, _ALL))
        return encode_document(message_id, session_id, text, outcome.finish_reason, outcome.duration_ms, failed)


async def _write(reader: Reader, send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
    reader.sent()


def message_id_of(scope: Scope) -> str:
    """Give the message id of the path; what cannot be one names no reply."""
    try:
        return check_message_id(scope["path_params"]["message_id"])
    except Refusal:
        raise Refusal(REPLY_GONE) from None


def _wants_stream(visit: Visit) -> bool:
    return b"text/event-stream" in visit.given.get(b"accept", b"").lower()


def _not_cached(visit: Visit) -> None:
    visit.headers = [header for header in visit.headers if header[0] != b"cache-control"]
    visit.headers.append(NO_TRANSFORM)


def _last_event(record: ReplyText, outcome: Outcome) -> int:
    return _FIRST + record.count() + (outcome.refusal is not None) + 1


def _last_event_id(visit: Visit) -> int:
    value = visit.given.get(b"last-event-id")
    if value is None or value == b"":
        return 0
    if not value.isdigit() or len(value) > 12:  # noqa: PLR2004 - no reply has so many events
        fault = FieldFault("Last-Event-ID", "must be the number of an event of this reply")
        raise Refusal(INVALID_REQUEST, "Last-Event-ID must be a number.", errors=[fault])
    return int(value)


def _with_content(refusal: Refusal, record: ReplyText) -> Refusal:
    """Give the refusal with the text that was said before it."""
    return refusal.anew(join_text(record.read(0, _ALL)))


def _fresh_uuid(random: bytes) -> str:
    """Give a version 4 UUID (RFC 9562, 5.4); the standard library's object would cost more than all of its use."""
    digits = random.hex()
    variant = "89ab"[random[8] & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
