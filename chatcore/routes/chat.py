"""The native chat contract: send, resume, stop (docs/http-api.md)."""

from collections.abc import Sequence
from importlib import import_module

from chatcore.asgi import (
    JSON,
    Header,
    Receive,
    Scope,
    Send,
    Visit,
    read_body,
    respond,
    respond_json,
    visit_of,
)
from chatcore.delivery import Delivery, last_event, text_of
from chatcore.errors import INVALID_REQUEST, REPLY_GONE, FieldFault, Refusal, problem
from chatcore.fields import Faults, shown
from chatcore.gate import Gate, tell_standing, weigh
from chatcore.intake import ChatRequest, check_message_id, is_form, media_type, parse_chat
from chatcore.live import Live
from chatcore.model import Delta, Outcome, Upload
from chatcore.observe import Observer, ReplyJoined
from chatcore.ports import ReplyText
from chatcore.sending import Sending
from chatcore.settings import IntakeSettings, UploadSettings
from chatcore.wire.encode_document import encode_document
from chatcore.wire.encode_sse import PING, encode_deltas, encode_done, encode_error, encode_start

EVENT_STREAM: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
)

REQUEST = "request"
"""The part of a request with files that holds the message, as JSON."""


class ChatRoutes:
    """Handlers of `/api/v1/chat` and below."""

    def __init__(
        self,
        gate: Gate,
        live: Live,
        sending: Sending,
        delivery: Delivery,
        settings: IntakeSettings,
        uploads: UploadSettings,
        observer: Observer,
    ) -> None:
        self._uploads = uploads
        if uploads.max_bytes:
            import_module("chatcore.form_data")  # else it would be loaded while others wait
        self._gate = gate
        self._live = live
        self._sending = sending
        self._delivery = delivery
        self._settings = settings
        self._observer = observer

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /api/v1/chat: start a reply or join it, and give it as a stream or as one document."""
        visit = visit_of(scope)
        client = self._gate.client(scope)
        admitted = await self._gate.try_address(client)
        try:
            caller = await self._gate.caller(visit)
            admitted = await self._gate.of_bot(client, caller.bot, admitted)
            request, upload = await self._read(visit, receive)
            record = None
            if request.message_id is not None:
                record = await self._live.log.find((caller.session_id, request.message_id), request.message)
        except Refusal as refusal:
            # Whoever is over the limit learns just that; only a retry of a reply that exists passes.
            raise weigh(visit, admitted, refusal) from None
        if record is not None:
            if not isinstance(admitted, Refusal):
                await self._gate.give_back(client, caller.bot)
            await self._join(upload)
        elif isinstance(admitted, Refusal):
            raise admitted
        else:
            record, standing = await self._sending.start(visit, caller, request, client.limit_key, upload)
            tell_standing(visit, admitted, standing)
        if _wants_stream(visit):
            await self._stream(scope, send, record, 0, decide=True)
        else:
            await self._document(scope, send, record)

    async def _join(self, upload: Upload | None) -> None:
        """A retry found its reply: it sends again what n8n has."""
        self._observer(ReplyJoined("retry"))
        if upload is not None:
            await upload.discard()

    async def _read(self, visit: Visit, receive: Receive) -> tuple[ChatRequest, Upload | None]:
        """Read the message, and of files no more than that they follow."""
        kind = visit.given.get(b"content-type")
        if not is_form(kind):
            media_type(kind)
            return parse_chat(await read_body(visit, receive, self._settings.max_body_bytes), self._settings), None
        from chatcore.form_data import FormData  # noqa: PLC0415 - not needed where no files are accepted

        form = FormData(visit, receive, self._uploads, self._settings.max_body_bytes)
        parts = await form.fields()
        unknown = next((name for name in parts if name != REQUEST), None)
        if unknown is not None or REQUEST not in parts:
            fault = "is required, before the files" if unknown is None else "is not a known part"
            faults = Faults()
            faults.add(REQUEST if unknown is None else shown(unknown), fault)
            faults.refuse()
        return parse_chat(parts[REQUEST].encode(), self._settings), form if form.has_files else None

    async def resume(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/chat/{message_id}: go on behind `Last-Event-ID`, or tell how the reply stands."""
        visit = visit_of(scope)
        record = await self._own_reply(scope, visit)
        after = _last_event_id(visit)
        await self._live.catch_up(record, after)
        outcome = record.outcome
        self._observer(ReplyJoined("resume"))
        if _wants_stream(visit):
            if outcome is not None and after >= last_event(record, outcome):
                await respond(send, 204, b"")
            else:
                await self._stream(scope, send, record, after, decide=False)
        elif outcome is None:
            await respond_json(send, 202, {"status": "running"}, (b"retry-after", b"1"))
        else:
            await respond(send, 200, _encode(visit, record, text_of(record), outcome), JSON)

    async def stop(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """DELETE /api/v1/chat/{message_id}: stop a running reply; fine when it has ended."""
        record = await self._own_reply(scope, visit_of(scope))
        await self._live.stop(record.turn_key)
        await respond(send, 204, b"")

    async def _own_reply(self, scope: Scope, visit: Visit) -> ReplyText:
        caller = await self._gate.caller(visit)
        record = await self._live.log.find((caller.session_id, message_id_of(scope)))
        if record is None:
            raise Refusal(REPLY_GONE)
        return record

    async def _stream(self, scope: Scope, send: Send, record: ReplyText, after: int, *, decide: bool) -> None:
        form = _Events(record, after, visit_of(scope).request_id)
        await self._delivery.stream(scope, send, record, form, after=after, decide=decide)

    async def _document(self, scope: Scope, send: Send, record: ReplyText) -> None:
        visit = visit_of(scope)

        def encode(text: str, outcome: Outcome) -> bytes:
            return _encode(visit, record, text, outcome)

        await self._delivery.document(scope, send, record, JSON, encode)


class _Events:
    """A reply as the server-sent events of our contract."""

    headers = EVENT_STREAM
    heartbeat = PING

    def __init__(self, record: ReplyText, after: int, request_id: str) -> None:
        self._key = record.turn_key
        self._after = after
        self._request_id = request_id

    def begin(self) -> bytes:
        session_id, message_id = self._key
        return encode_start(message_id, session_id)

    def deltas(self, first: int, deltas: Sequence[Delta]) -> bytes:
        return encode_deltas(first, deltas)

    def end(self, last: int, outcome: Outcome) -> bytes:
        done = encode_done(last, self._key[1], outcome.finish_reason, outcome.duration_ms)
        if outcome.refusal is None or self._after >= last - 1:
            return done
        return encode_error(last - 1, problem(outcome.refusal, self._request_id)) + done


def _encode(visit: Visit, record: ReplyText, text: str, outcome: Outcome) -> bytes:
    failed = None if outcome.refusal is None else problem(outcome.refusal, visit.request_id)
    session_id, message_id = record.turn_key
    return encode_document(message_id, session_id, text, outcome.finish_reason, outcome.duration_ms, failed)


def message_id_of(scope: Scope) -> str:
    """Give the message id of the path; what cannot be one names no reply."""
    try:
        return check_message_id(scope["path_params"]["message_id"])
    except Refusal:
        raise Refusal(REPLY_GONE) from None


def _wants_stream(visit: Visit) -> bool:
    return b"text/event-stream" in visit.given.get(b"accept", b"").lower()


def _last_event_id(visit: Visit) -> int:
    value = visit.given.get(b"last-event-id")
    if value is None or value == b"":
        return 0
    if not value.isdigit() or len(value) > 12:  # noqa: PLR2004 - no reply has so many events
        fault = FieldFault("Last-Event-ID", "must be the number of an event of this reply")
        raise Refusal(INVALID_REQUEST, "Last-Event-ID must be a number.", errors=[fault])
    return int(value)
