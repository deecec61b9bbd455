"""What goes to n8n: where, with which headers, in which body; pure."""

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from chatcore import __version__
from chatcore.model import FileHead, HistoryEntry, Turn, Upload, User
from chatcore.settings import BotSettings


class Context(msgspec.Struct, omit_defaults=True):
    """What the server alone may say; the workflow can rely on it."""

    message_id: str
    received_at: datetime
    origin: str | None = None
    page_url: str | None = None
    user: User | None = None


class Message(msgspec.Struct, omit_defaults=True, rename={"session_id": "sessionId", "chat_input": "chatInput"}):
    """The body n8n gets, in the names of its chat nodes (n8n 2.41)."""

    action: str
    session_id: str
    chat_input: str
    context: Context
    metadata: dict[str, object] | None = None
    history: list[HistoryEntry] | None = None


class Webhook:
    """One bot's webhook; `headers` are those that do not change from request to request."""

    def __init__(self, settings: BotSettings) -> None:
        self.url = settings.url
        self.headers = {
            "Accept": "application/json, text/event-stream, text/plain, */*;q=0.5",
            "Accept-Encoding": "identity",  # n8n's streams are cut to pieces by gzip otherwise
            "Content-Type": "application/json",
            "User-Agent": f"chatcore/{__version__}",
        }
        self._bearer = True
        if settings.basic_auth is not None:
            self.headers["Authorization"] = "Basic " + b64encode(":".join(settings.basic_auth).encode()).decode()
            self._bearer = False
        if settings.api_key is not None:
            self.headers[settings.api_key_header] = settings.api_key
            self._bearer = self._bearer and settings.api_key_header.lower() != "authorization"
        self._encode = msgspec.json.Encoder().encode

    def signed(self, token: str) -> dict[str, str]:
        """Give the headers that carry the short-lived token which n8n can validate."""
        if self._bearer:
            return {"X-Session-Token": token, "Authorization": f"Bearer {token}"}
        return {"X-Session-Token": token}

    def body(self, turn: Turn) -> bytes:
        """Give the body of one request."""
        return self._encode(_message(turn))

    async def form(self, turn: Turn, upload: Upload, boundary: str) -> AsyncIterator[bytes]:
        """Give the body of a request with files, as `multipart/form-data` (RFC 7578), while the files come.

        The files are first: where an upload is cut, n8n 2.41 refuses it, but older ones (2.2) run the workflow with
        what came, and without message and session it cannot get far. Raises `Refusal` as `Upload.pieces`.
        """
        delimiter = f"--{boundary}\r\n"
        async for piece in upload.pieces():
            if isinstance(piece, FileHead):
                name, kind = _quoted(piece.name), piece.content_type
                part = f'{delimiter}Content-Disposition: form-data; name="files"; filename="{name}"\r\n'
                yield f"{part}Content-Type: {kind}\r\n\r\n".encode()
                delimiter = f"\r\n--{boundary}\r\n"
            else:
                yield piece
        message = _message(turn)
        fields = {"action": message.action, "sessionId": message.session_id, "chatInput": message.chat_input}
        for field in ("metadata", "history", "context"):
            if (value := getattr(message, field)) is not None:
                fields[field] = self._encode(value).decode()
        body = ""
        for field, text in fields.items():
            body += f'{delimiter}Content-Disposition: form-data; name="{field}"\r\n\r\n{text}'
            delimiter = f"\r\n--{boundary}\r\n"
        yield f"{body}\r\n--{boundary}--\r\n".encode()


def _message(turn: Turn) -> Message:
    received = datetime.fromtimestamp(turn.received_at, UTC)
    context = Context(turn.message_id, received, turn.origin, turn.page_url, turn.user)
    return Message("sendMessage", turn.session_id, turn.text, context, turn.metadata, turn.history)


def _quoted(name: str) -> str:
    """Escape a file's name as browsers do (WHATWG HTML, 4.10.21.8)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
