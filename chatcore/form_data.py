"""A multipart request as it comes: text parts first, then files that are checked while they pass through.

Nothing is kept but the 4 KiB by which a file's type is judged: who takes the pieces decides how fast the client may
send. `multipart/form-data` is RFC 7578; file names are read as browsers write them (WHATWG HTML, 4.10.21.8).
"""

import asyncio
import re
from collections.abc import AsyncIterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from chatcore.asgi import Receive, Visit, check_coding
from chatcore.errors import (
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    FieldFault,
    Kind,
    Refusal,
)
from chatcore.fields import shown
from chatcore.file_types import HEAD_BYTES, UnfitError, is_textual, judge
from chatcore.live import ClientGoneError
from chatcore.model import FileHead
from chatcore.settings import UploadSettings

MAX_FIELDS = 20
FILES = "files"
"""The name that every part with a file has, as with n8n's own widget."""

_MAX_NAME_CHARS = 255
_HEAD_OF_PART_BYTES = 8192  # what a part may need beside its content; also room for what clients send around the parts
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1
# Control characters, and those that turn the direction of writing, by which a name can hide its ending.
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


class FormData:
    """One request's body; implements `model.Upload`."""

    def __init__(self, visit: Visit, receive: Receive, limits: UploadSettings, max_field_bytes: int) -> None:
        """Look at the head alone. `max_field_bytes` bounds the text parts together.

        Raises `Refusal`: `unsupported_media_type` where files are not accepted or the body cannot be read,
        `body_too_large` by Content-Length.
        """
        if limits.max_bytes == 0:
            raise Refusal(UNSUPPORTED_MEDIA_TYPE, "Files are not accepted by this server.")
        check_coding(visit)
        kind, options = parse_options_header(visit.given.get(b"content-type", b"").decode("latin-1"))
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
            raise Refusal(UNSUPPORTED_MEDIA_TYPE, "Send files as 'Content-Type: multipart/form-data; boundary=…'.")
        self.refusal: Refusal | None = None
        self._ended = asyncio.Event()
        self._receive: Receive | None = receive
        self._limits = limits
        self._max_field_bytes = max_field_bytes
        self._left = limits.max_files * limits.max_bytes + max_field_bytes
        self._left += (MAX_FIELDS + limits.max_files) * _HEAD_OF_PART_BYTES
        length = visit.given.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._left:
            raise self._too_large()
        self._parser = PushMultipartParser(boundary)
        self._events = self._parse()
        self._file: MultipartSegment | None = None
        self._begun = False

    @property
    def has_files(self) -> bool:
        """Whether a file follows; known after `fields`."""
        return self._file is not None

    async def fields(self) -> dict[str, str]:
        """Read the text parts up to the first file, or the end.

        Raises `Refusal`: `invalid_request` for a body of another form, a name twice, more than `MAX_FIELDS`, text that
        is not UTF-8; `body_too_large`. Raises `ClientGoneError`.
        """
        read: dict[str, str] = {}
        name, value, left = "", bytearray(), self._max_field_bytes
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                if event.filename is not None:
                    self._file = _file_part(event)
                    break
                name = event.name or ""
                if name in read:
                    raise _invalid(shown(name), "is given twice")
                if len(read) == MAX_FIELDS:
                    raise _invalid("body", f"must have at most {MAX_FIELDS} text parts")
            elif event is None:
                try:
                    read[name] = value.decode()
                except UnicodeDecodeError:
                    raise _invalid(shown(name), "must be text in UTF-8") from None
                value.clear()
            else:
                left -= len(event)
                if left < 0:
                    said = f"The text parts of the request are larger than {self._max_field_bytes} bytes."
                    raise Refusal(BODY_TOO_LARGE, said, errors=[FieldFault(shown(name), "is too large")])
                value += event
        return read

    async def pieces(self) -> AsyncIterator[FileHead | bytes]:
        """Give each file's head, then its bytes as they come. Raises `Refusal`, the same that `refusal` keeps."""
        self._begun = True
        try:
            number = 0
            while self._file is not None:
                if number == self._limits.max_files:
                    most = f"at most {number} {'file is' if number == 1 else 'files are'} accepted"
                    raise _file_fault(BODY_TOO_LARGE, number, f"is one too many: {most}")
                async for piece in self._one_file(self._file, number):
                    yield piece
                number += 1
        except Refusal as refusal:
            self.refusal = refusal.anew()
            raise
        except ClientGoneError:
            self.refusal = Refusal(REQUEST_TIMEOUT, "The connection was lost before all files had arrived.")
            raise self.refusal.anew() from None
        finally:
            self.close()

    async def settled(self) -> None:
        """Wait until nothing is read any more."""
        await self._ended.wait()

    async def discard(self) -> None:
        """Read what is left and drop it, so that the client can read its answer. Raises as `fields`."""
        if not self._begun:
            self._begun = True
            try:
                while await self._chunk():
                    pass
            finally:
                self.close()

    def close(self) -> None:
        """Read no more, and let go of the request."""
        self._receive = None
        self._ended.set()

    async def _one_file(self, part: MultipartSegment, number: int) -> AsyncIterator[FileHead | bytes]:
        """Give one file's pieces; afterwards `_file` is the next one, or None at the end."""
        name = base_name(part.filename or "")
        if len(name) > _MAX_NAME_CHARS:
            raise _file_fault(INVALID_REQUEST, number, f"has a name of more than {_MAX_NAME_CHARS} characters")
        head, kind, size, whole = b"", "", 0, False
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                if event.filename is None:
                    raise _invalid(shown(event.name or ""), "must come before the files")
                self._file = _file_part(event)
                return
            whole = event is None
            data = event or b""
            size += len(data)
            if size > self._limits.max_bytes:
                raise _file_fault(BODY_TOO_LARGE, number, f"is larger than {self._limits.max_bytes} bytes")
            if not kind:
                head += data
                if len(head) < HEAD_BYTES and not whole:
                    continue
                kind = self._judged(part, name, head, number, whole=whole)
                yield FileHead(name, kind)
                data = head
            if is_textual(kind) and b"\0" in data:  # its beginning alone was looked at closely
                raise _file_fault(UNSUPPORTED_MEDIA_TYPE, number, "must be text without NUL")
            if data:
                yield data
        self._file = None

    def _judged(self, part: MultipartSegment, name: str, head: bytes, number: int, *, whole: bool) -> str:
        whole = whole and len(head) <= HEAD_BYTES
        try:
            return judge(part.content_type, name, head[:HEAD_BYTES], self._limits.types, whole=whole)
        except UnfitError as fault:
            raise _file_fault(UNSUPPORTED_MEDIA_TYPE, number, str(fault)) from None

    async def _parse(self) -> AsyncIterator[MultipartSegment | bytes | None]:
        """Give the parser's events: a part's head, its bytes, None at its end."""
        try:
            while chunk := await self._chunk():
                for event in self._parser.parse(chunk):
                    if isinstance(event, MultipartSegment) and not event.name:
                        raise _invalid("body", "has a part without a name")
                    yield event
            self._parser.close()
        except MultipartError as error:
            raise _invalid("body", f"is no well-formed multipart/form-data: {error.args[0]}") from None

    async def _chunk(self) -> bytes:
        """Give more of the body, b"" at its end."""
        while self._receive is not None:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            if not message.get("more_body", False):
                self._receive = None
            body: bytes = message.get("body", b"")
            self._left -= len(body)
            if self._left < 0:
                raise self._too_large()
            if body:
                return body
        return b""

    def _too_large(self) -> Refusal:
        limits = self._limits
        most = f"{limits.max_files} {'file' if limits.max_files == 1 else 'files'} of {limits.max_bytes} bytes"
        said = f"The request is too large: at most {most} and {self._max_field_bytes} bytes of text are accepted."
        return Refusal(BODY_TOO_LARGE, said)


def base_name(name: str) -> str:
    """Give a file's name as it may travel on: no folders, nothing that does not show, never empty."""
    last = re.split(r"[/\\]", _NOT_IN_NAMES.sub("", name))[-1].strip(" ")
    return last if last.strip(".") else "file"


def _file_part(part: MultipartSegment) -> MultipartSegment:
    if part.name != FILES:
        raise _invalid(shown(part.name or ""), f'must not be a file: files are parts named "{FILES}"')
    return part


def _file_fault(kind: Kind, number: int, message: str) -> Refusal:
    field = f"{FILES}[{number}]"
    return Refusal(kind, f"File {number + 1} {message}.", errors=[FieldFault(field, message)])


def _invalid(field: str, message: str) -> Refusal:
    said = f"The request is not valid: {field} {message}."
    return Refusal(INVALID_REQUEST, said, errors=[FieldFault(field, message)])
