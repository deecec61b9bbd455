"""The drop-in for n8n's own widget, unchanged: any of its two shapes, whatever n8n answered (docs/n8n-chat.md)."""

from collections.abc import Sequence

from chatcore.asgi import JSON, Header, Receive, Scope, Send, Visit, read_body, respond, visit_of
from chatcore.clientaddr import Client
from chatcore.delivery import Delivery
from chatcore.drop_in import (
    LOAD_PREVIOUS,
    WidgetRequest,
    is_unguessable,
    parse_document,
    parse_form,
    session_name,
)
from chatcore.error_shapes import LINES, wants_lines
from chatcore.errors import NOT_FOUND, TOKEN_INVALID, TOKEN_MISSING, Refusal
from chatcore.gate import Gate, tell_standing, weigh
from chatcore.intake import ChatRequest, is_form, media_type
from chatcore.model import Caller, Delta, Outcome, Upload
from chatcore.ports import Archive, Clock, StoreUnavailableError
from chatcore.ratelimit import Standing
from chatcore.sending import Sending
from chatcore.settings import Settings
from chatcore.upstream import N8nUpstream
from chatcore.wire.encode_lines import HEARTBEAT, encode_line, encode_output
from chatcore.wire.previous_session import MAX_MESSAGES, Said, encode_previous

STOPPED = "The reply was stopped."
NO_SESSION = "This chat needs a session token, and the page sent none."  # a visitor reads it

_UNBUFFERED: Header = (b"x-accel-buffering", b"no")


class N8nChatRoutes:
    """The handler of `/chat` and `/chat/{bot}`."""

    def __init__(
        self,
        gate: Gate,
        sending: Sending,
        delivery: Delivery,
        upstream: N8nUpstream,
        archive: Archive | None,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._gate = gate
        self._sending = sending
        self._delivery = delivery
        self._upstream = upstream
        self._archive = archive
        self._intake = settings.intake
        self._uploads = settings.uploads
        # Who is to show that he is human does so for a session that is issued.
        self._needs_token = settings.intake.require_token or settings.challenge is not None
        self._asks_n8n = settings.upstream.load_previous and archive is None
        self._clock = clock

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /chat, /chat/{bot}: answer a message, or give the session's earlier ones."""
        visit = visit_of(scope)
        bot = self._bot(scope)
        self._gate.check_origin(visit, bot)
        client = self._gate.client(scope)
        admitted = await self._gate.try_address(client, bot)
        try:
            request, upload = await self._read(visit, receive)
            if request.action == LOAD_PREVIOUS:
                messages = await self._previous(visit, bot, request, client, admitted)
                await respond(send, 200, encode_previous(messages), JSON)
                return
            caller = await self._caller(visit, bot, request.session)
        except Refusal as refusal:
            raise weigh(visit, admitted, refusal) from None
        if isinstance(admitted, Refusal):
            raise admitted
        message = ChatRequest(request.text, metadata=request.metadata)
        record, standing = await self._sending.start(visit, caller, message, client.limit_key, upload)
        tell_standing(visit, admitted, standing)
        if wants_lines(visit.accept):
            await self._delivery.stream(scope, send, record, _Lines(record.turn_key[1], self._clock))
        else:
            visit.headers.append(_UNBUFFERED)  # white space must pass nginx before a gateway behind it gives up
            await self._delivery.document(scope, send, record, JSON, _encode)

    def _bot(self, scope: Scope) -> str:
        asked: str | None = scope.get("path_params", {}).get("bot")
        bot = self._gate.bot(asked)
        if bot is None:
            said = (
                "There is no bot of this name." if asked else "Say which bot, as /chat/<bot>: this server has several."
            )
            raise Refusal(NOT_FOUND, said)
        return bot

    async def _read(self, visit: Visit, receive: Receive) -> tuple[WidgetRequest, Upload | None]:
        """Read the request, and of files no more than that they follow."""
        named, kind = not _has_token(visit), visit.given.get(b"content-type")
        if not is_form(kind):
            media_type(kind)
            body = await read_body(visit, receive, self._intake.max_body_bytes)
            return parse_document(body, self._intake, named=named), None
        # Loaded when the first files come: most servers take none.
        from chatcore.form_data import FormData  # noqa: PLC0415 - the reason is above

        form = FormData(visit, receive, self._uploads, self._intake.max_body_bytes)
        request = parse_form(await form.fields(), self._intake, named=named)
        return request, form if form.has_files else None

    async def _caller(self, visit: Visit, bot: str, session: str | None) -> Caller:
        """Give the token's session, or the one that the page names. Raises `Refusal` 401, and 403 as `Gate.accept`."""
        if _has_token(visit):
            caller = await self._gate.caller(visit)
            if caller.bot != bot:
                raise Refusal(TOKEN_INVALID, "This session belongs to another bot. Start a new session.")
            return caller
        if self._needs_token or session is None:
            raise Refusal(TOKEN_MISSING, NO_SESSION)
        caller = Caller(session_name(visit.given.get(b"origin"), bot, session), bot)
        await self._gate.accept(visit, caller)
        return caller

    async def _previous(
        self, visit: Visit, bot: str, request: WidgetRequest, client: Client, admitted: Standing | Refusal | None
    ) -> Sequence[Said]:
        """Give the session's messages as far as the client may have them. Never refuses: the widget has no input then.

        It costs nothing, but where n8n is asked the address pays, and has no history once it is over its limit.
        """
        free = not self._asks_n8n
        if free and admitted is not None and not isinstance(admitted, Refusal):
            await self._gate.give_back(client, bot)
        if not _has_token(visit) and not (request.session and is_unguessable(request.session)):
            return ()
        try:
            caller = await self._caller(visit, bot, request.session)
            if self._archive is not None:
                page = await self._archive.history(caller.session_id, None, MAX_MESSAGES)
                return [Said(message.role, message.content) for message in page.messages]
        except (Refusal, StoreUnavailableError):
            return ()
        if free or isinstance(admitted, Refusal) or not self._upstream.available(bot):
            return ()
        return await self._upstream.previous(bot, caller.session_id)


class _Lines:
    """A reply as the lines of n8n's stream, a node of its own for each segment and for an error."""

    headers = (LINES, _UNBUFFERED)
    heartbeat = HEARTBEAT

    def __init__(self, message_id: str, clock: Clock) -> None:
        self._message_id = message_id
        self._clock = clock
        self._node = 0
        self._opens = True
        self._blank = ""  # white space at a segment's begin: alone the widget would show it as an empty bubble

    def begin(self) -> bytes:
        return b""  # a node without text would be an empty answer to the widget

    def deltas(self, first: int, deltas: Sequence[Delta]) -> bytes:  # noqa: ARG002 - the form's signature
        at = self._clock.now()
        said = b""
        for delta in deltas:
            if delta.opens_segment:
                self._opens, self._blank = True, ""
            text = self._blank + delta.content
            if self._opens and text.isspace():
                self._blank = text
                continue
            if self._opens:
                said += self._closed(at) + self._opened(at)
                self._opens, self._blank = False, ""
            said += encode_line("item", self._id, at, text)
        return said

    def end(self, last: int, outcome: Outcome) -> bytes:  # noqa: ARG002 - the form's signature
        at = self._clock.now()
        said = self._closed(at)
        sentence = _sentence(outcome)
        if sentence is not None and (outcome.refusal is not None or not self._node):
            # The widget would put the sentence at the end of the last text if it had the same node.
            said += self._opened(at) + encode_line("error", self._id, at, sentence)
        return said

    @property
    def _id(self) -> str:
        return f"{self._message_id}-{self._node}"

    def _opened(self, at: float) -> bytes:
        self._node += 1
        return encode_line("begin", self._id, at)

    def _closed(self, at: float) -> bytes:
        return encode_line("end", self._id, at) if self._node else b""


def _has_token(visit: Visit) -> bool:
    """Tell whether the page means to send a session's token; Basic auth is for somebody else on the way, or for n8n."""
    return not visit.given.get(b"authorization", b"Basic ").lower().startswith(b"basic ")


def _encode(text: str, outcome: Outcome) -> bytes:
    sentence = _sentence(outcome)
    return encode_output(text, None if outcome.refusal is None and text else sentence)


def _sentence(outcome: Outcome) -> str | None:
    """Say why a reply ended before its end."""
    if outcome.refusal is not None:
        return outcome.refusal.detail
    return STOPPED if outcome.finish_reason == "stopped" else None
