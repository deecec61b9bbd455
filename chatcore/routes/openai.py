"""OpenAI's API for programs with a key: bots as models, chat completions as streams and documents (docs/openai.md)."""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Self

from chatcore.asgi import JSON, App, Receive, Scope, Send, Visit, read_body, respond, respond_json, visit_of
from chatcore.clientaddr import Client
from chatcore.delivery import Delivery
from chatcore.errors import INVALID_REQUEST, MODEL_NOT_FOUND, FieldFault, Refusal
from chatcore.gate import Gate, limit_first, tell_standing
from chatcore.intake import ChatRequest, media_type
from chatcore.keyed import base64url
from chatcore.live import READ_CHARS, ClientGoneError, Live
from chatcore.model import Caller, Outcome
from chatcore.openai_request import CompletionRequest, parse_completion
from chatcore.ports import Clock, ReplyText, SessionStore
from chatcore.routes.operators import Programs
from chatcore.sending import Sending
from chatcore.settings import IntakeSettings
from chatcore.wire.encode_document import join_text
from chatcore.wire.encode_openai import Chunks, Completion, encode_completion, model, models
from chatcore.wire.stop_sequences import StopSearch

MIN_BODY_BYTES = 4 << 20
"""Programs send whole conversations, so a body may have at least this, whatever `MAX_BODY_BYTES` is."""

_SESSION_HEADERS = (b"x-session-id", b"x-openwebui-chat-id")


class OpenAiRoutes:
    """Handlers of `/v1/models` and `/v1/chat/completions`."""

    def __init__(
        self,
        programs: Programs,
        gate: Gate,
        live: Live,
        sending: Sending,
        delivery: Delivery,
        sessions: SessionStore,
        settings: IntakeSettings,
        clock: Clock,
    ) -> None:
        self._programs = programs
        self._gate = gate
        self._live = live
        self._sending = sending
        self._delivery = delivery
        self._sessions = sessions
        self._max_body_bytes = max(settings.max_body_bytes, MIN_BODY_BYTES)
        self._max_message_chars = settings.max_message_chars
        self._clock = clock
        self._created = int(clock.now())

    @property
    def routes(self) -> Mapping[str, Mapping[str, App]]:
        """Every path with its handlers by method; none where no program has a key."""
        if not self._programs:
            return {}
        return {
            "/v1/chat/completions": {"POST": self.complete},
            "/v1/models": {"GET": self.models},
            "/v1/models/{model}": {"GET": self.model},
        }

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /v1/models: the bots."""
        await self._programs.admit(scope)
        await respond_json(send, 200, models(self._gate.bots, self._created))

    async def model(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /v1/models/{model}: one bot."""
        await self._programs.admit(scope)
        name: str = scope["path_params"]["model"]
        self._check_model(name)
        await respond_json(send, 200, model(name, self._created))

    async def complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/chat/completions: send the last message of a user to its bot, and give the reply."""
        visit = visit_of(scope)
        key = await self._programs.admit(scope)
        # Who pays is the key, wherever it is used from: the address is mostly that of one server for all its users.
        payer = Client(address=key, limit_key=f"key:{_digest(key)}", masked=key)
        charged = await self._gate.try_address(payer)
        if isinstance(charged, Refusal) and not self._gate.own_rates:
            raise charged
        with limit_first(charged):
            media_type(visit.given.get(b"content-type"))
            asked = parse_completion(await read_body(visit, receive, self._max_body_bytes), self._max_message_chars)
            self._check_model(asked.model)
        charged = await self._gate.of_bot(payer, asked.model, charged)
        if isinstance(charged, Refusal):
            raise charged
        caller = Caller(await self._session(visit, key, asked), asked.model)
        # Nobody looked at the page's origin, and the workflow may rely on the one that it is told.
        visit.given.pop(b"origin", None)
        request = ChatRequest(asked.message, history=asked.history)
        record, standing = await self._sending.start(visit, caller, request, payer.limit_key)
        tell_standing(visit, charged, standing)
        about = Completion(
            id=f"chatcmpl-{record.turn_key[1].replace('-', '')}",
            model=asked.model,
            created=int(self._clock.now()),
            prompt_tokens=asked.prompt_tokens,
            stop=asked.stop,
            include_usage=asked.include_usage,
        )
        try:
            with _StopAt(self._live, record, asked.stop) as stop:
                if asked.stream:
                    await self._delivery.stream(scope, send, record, Chunks(about))
                else:
                    await self._document(scope, send, record, about, stop)
        except ClientGoneError:
            await self._live.stop(record.turn_key)  # nobody could resume it
            raise

    async def _document(self, scope: Scope, send: Send, record: ReplyText, about: Completion, stop: "_StopAt") -> None:
        def encode(text: str, outcome: Outcome) -> bytes:
            return encode_completion(about, text, outcome)

        # White space must pass nginx before a gateway behind it gives up.
        visit_of(scope).headers.append((b"x-accel-buffering", b"no"))
        try:
            await self._delivery.document(scope, send, record, JSON, encode)
        except Refusal as refusal:
            if not stop.found or refusal.content is None:
                raise
            # It failed behind the stop sequence, before it could be stopped there.
            outcome = Outcome(finish_reason="stopped", duration_ms=0)
            await respond(send, 200, encode(refusal.content, outcome), JSON)

    async def _session(self, visit: Visit, key: str, asked: CompletionRequest) -> str:
        """Give the id of the session that the program names, or a fresh one. Raises `Refusal` for an erased one."""
        named = [value for header in _SESSION_HEADERS if (value := visit.given.get(header))]
        name = named[0] if named else (asked.user or "").encode()
        # Line feeds are in no key's and no bot's name, so that no two sessions have one id.
        about = f"{key}\n{asked.model}\n".encode() + (name or self._clock.token_bytes(16))
        session_id = f"o_{base64url(sha256(about).digest())}"
        if name and await self._sessions.is_erased(session_id):
            said = "names a session that was erased; choose another name"
            field = "user" if not named else next(one for one in _SESSION_HEADERS if visit.given.get(one)).decode()
            raise Refusal(INVALID_REQUEST, f"The request {said}.", errors=[FieldFault(field, said)])
        return session_id

    def _check_model(self, name: str) -> None:
        if name not in self._gate.bots:
            said = "There is no model of this name. GET /v1/models tells which there are."
            raise Refusal(MODEL_NOT_FOUND, said, errors=[FieldFault("model", "is not the name of a bot")])


class _StopAt:
    """Ends the exchange with n8n once the reply has a stop sequence in it. `found` once it has."""

    def __init__(self, live: Live, record: ReplyText, sequences: Sequence[str]) -> None:
        self._live = live
        self._record = record
        self._search = StopSearch(sequences) if sequences else None
        self._position = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def found(self) -> bool:
        return self._search is not None and self._search.found

    def __enter__(self) -> Self:
        if self._search is not None:
            self._record.watch(self._look)
            self._look()
        return self

    def __exit__(self, *exc: object) -> None:
        self._record.unwatch(self._look)

    def _look(self) -> None:
        """Search what is new. The reply's own task may be calling, so another one has to end it."""
        search = self._search
        if search is None or search.found:
            return
        try:
            while deltas := self._record.read(self._position, READ_CHARS):
                self._position = max(self._position, 1) + len(deltas)
                search.feed(join_text(deltas))
        except Refusal:  # dropped for lack of memory: its reader is told
            return
        if search.found:
            self._task = self._live.loop.create_task(self._live.stop(self._record.turn_key))


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()
