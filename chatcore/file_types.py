"""Which type a file really has: what its first bytes, its name and its sender say, compared; pure.

The content decides where its type has a signature, and must then be what was declared. Signatures are those of the
formats' own specifications. What nobody recognises passes as what it was declared.
"""

import codecs
import re
from collections.abc import Collection
from typing import NoReturn

HEAD_BYTES = 4096
"""So much of a file's beginning is enough to judge it."""

_ZIP = "application/zip"
_OFFICE = "application/vnd.openxmlformats-officedocument."
_WORD, _SHEET = _OFFICE + "wordprocessingml.document", _OFFICE + "spreadsheetml.sheet"
_SLIDES = _OFFICE + "presentationml.presentation"
_OLE = ("application/x-ole-storage", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint")
_EXCEL = "application/vnd.ms-excel"
_PROGRAM = "application/x-executable"

# Beginning -> the types it may be, the most likely one first.
_SIGNATURES: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"\x89PNG\r\n\x1a\n", ("image/png", "image/apng")),
    (b"\xff\xd8\xff", ("image/jpeg",)),
    (b"GIF87a", ("image/gif",)),
    (b"GIF89a", ("image/gif",)),
    (b"II*\0", ("image/tiff",)),
    (b"MM\0*", ("image/tiff",)),
    (b"\0\0\1\0", ("image/x-icon",)),
    (b"8BPS", ("image/vnd.adobe.photoshop",)),
    (b"%PDF-", ("application/pdf",)),
    (b"{\\rtf", ("application/rtf",)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", (*_OLE, "application/vnd.ms-outlook")),
    (b"PK\5\6", (_ZIP,)),
    (b"\x1f\x8b", ("application/gzip",)),
    (b"BZh", ("application/x-bzip2",)),
    (b"\xfd7zXZ\0", ("application/x-xz",)),
    (b"(\xb5/\xfd", ("application/zstd",)),
    (b"7z\xbc\xaf\x27\x1c", ("application/x-7z-compressed",)),
    (b"Rar!\x1a\7", ("application/vnd.rar",)),
    (b"ID3", ("audio/mpeg",)),
    (b"fLaC", ("audio/flac",)),
    (b"OggS", ("audio/ogg", "video/ogg", "application/ogg")),
    (b"MThd", ("audio/midi",)),
    (b"\x1aE\xdf\xa3", ("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska")),
    (b"SQLite format 3\0", ("application/vnd.sqlite3",)),
    (b"\0asm", ("application/wasm",)),
    (b"\x7fELF", (_PROGRAM,)),
    (b"MZ", (_PROGRAM,)),
)
_RIFF = {b"WEBP": ("image/webp",), b"WAVE": ("audio/wav",), b"AVI ": ("video/x-msvideo",)}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), ("image/avif",)),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), ("image/heic", "image/heif")),
    **dict.fromkeys((b"M4A ", b"M4B "), ("audio/mp4",)),
    b"qt  ": ("video/quicktime",),
}
_MOVIE = ("video/mp4", "audio/mp4", "video/3gpp", "audio/3gpp", "video/quicktime")
_IN_ZIP = {b"word/": _WORD, b"xl/": _SHEET, b"ppt/": _SLIDES}
_OPC = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"customXml/", *_IN_ZIP)
# The first file of OpenDocument and EPUB is `mimetype`, stored as it is.
_MIMETYPE = re.compile(
    rb"PK\x03\x04.{26}mimetype(application/(?:vnd\.oasis\.opendocument\.[a-z-]+|epub\+zip))", re.DOTALL
)
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|iframe)[\s>/]", re.IGNORECASE)
_SVG = re.compile(rb"<(!doctype\s+)?svg[\s>/]", re.IGNORECASE)
_PATTERNS: tuple[tuple[re.Pattern[bytes], tuple[str, ...]], ...] = (
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), ("image/bmp",)),
    # A frame of MPEG audio, layer 2 or 3, with a bit rate; one of AAC has layer 0.
    (re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]"), ("audio/mpeg",)),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), ("audio/aac",)),
)

# Other names by which senders, mostly systems without a common registry, call the same type.
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/vnd.microsoft.icon": "image/x-icon",
    "application/x-pdf": "application/pdf",
    "text/rtf": "application/rtf",
    "application/x-zip-compressed": _ZIP,
    "application/x-zip": _ZIP,
    "application/x-gzip": "application/gzip",
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-rar": "application/vnd.rar",
    "application/x-msdownload": _PROGRAM,
    "application/vnd.microsoft.portable-executable": _PROGRAM,
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/x-aac": "audio/aac",
    "video/avi": "video/x-msvideo",
    "text/xml": "application/xml",
    "text/x-markdown": "text/markdown",
    "application/javascript": "text/javascript",
    "application/x-javascript": "text/javascript",
}
# Of names only what people open by name and would not expect: what a name promises must be inside.
_ENDINGS = {
    **{ending: f"image/{ending}" for ending in ("png", "gif", "webp", "avif", "heic", "heif", "bmp")},
    **{ending: f"audio/{ending}" for ending in ("wav", "flac", "aac")},
    **{ending: f"text/{ending}" for ending in ("csv", "html", "css")},
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    **dict.fromkeys(("tif", "tiff"), "image/tiff"),
    **dict.fromkeys(("svg", "svgz"), "image/svg+xml"),
    **dict.fromkeys(("htm", "xhtml", "hta"), "text/html"),
    **dict.fromkeys(("js", "mjs"), "text/javascript"),
    **dict.fromkeys(("exe", "dll", "com", "scr", "msi", "cpl", "pif"), _PROGRAM),
    **dict.fromkeys(("oga", "ogg"), "audio/ogg"),
    "ico": "image/x-icon",
    "pdf": "application/pdf",
    "rtf": "application/rtf",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "zip": _ZIP,
    "gz": "application/gzip",
    "7z": "application/x-7z-compressed",
    "rar": "application/vnd.rar",
    "docx": _WORD,
    "xlsx": _SHEET,
    "pptx": _SLIDES,
    "doc": _OLE[1],
    "xls": _EXCEL,
    "ppt": _OLE[3],
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "txt": "text/plain",
    "md": "text/markdown",
    "json": "application/json",
    "xml": "application/xml",
}
_SIGNED = frozenset(
    {kind for table in (_SIGNATURES, _PATTERNS) for _, kinds in table for kind in kinds}
    | {kind for table in (_BRANDS, _RIFF) for kinds in table.values() for kind in kinds}
    | {*_MOVIE, *_IN_ZIP.values()}
    | {kind for kind in _ENDINGS.values() if kind.startswith("application/vnd.oasis.")}
)
_BY_NAME_ONLY = frozenset({"image/svg+xml", "text/html", "text/javascript", "application/xhtml+xml"})
"""What browsers run: allowed where it is named, not by `image/*` or `text/*`."""

_TEXTS = frozenset({"json", "xml", "yaml", "x-yaml", "toml", "sql", "x-ndjson", "jsonl"})
_KIND = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")  # RFC 6838, section 4.2
_CONTROL = re.compile(rb"[\0-\x08\x0b\x0e-\x1f\x7f]")
_MARK = b"\xef\xbb\xbf"


class UnfitError(Exception):
    """A file that is not taken; the message continues a sentence that begins with its place (`files[1]`)."""


def judge(declared: str | None, name: str, head: bytes, allowed: Collection[str], *, whole: bool) -> str:
    """Give the type of a file by the first `HEAD_BYTES` of it (`whole`: that is all there is).

    `declared` is what its sender says, `allowed` as `UploadSettings.types`. Raises `UnfitError`.
    """
    found = recognise(head)
    textual = not found and is_text(head, whole=whole)
    named = _ENDINGS.get(name.rpartition(".")[2].lower()) if "." in name else None
    kind = _declared(declared, named, textual=textual) or _guessed(found, named, textual=textual and bool(head))
    if kind is None:
        raise UnfitError("is of a type that was neither declared nor recognised")
    if not _KIND.fullmatch(kind):
        raise UnfitError("has a Content-Type that is none")
    if not is_allowed(kind, allowed):
        raise UnfitError(f"has the type {kind}; accepted are {', '.join(allowed)}")
    if not head and not is_textual(kind):
        raise UnfitError("is empty")
    if (found and kind not in found) or (not found and head and kind in _SIGNED):
        _contradict("was declared as", kind, found, textual=textual)
    if is_textual(kind) and not found and not textual:
        raise UnfitError("must be text in UTF-8 without control characters")
    if named is not None and head and named != kind:
        same = named in found if found else named not in _SIGNED and is_textual(named) == is_textual(kind)
        if not same or named in _BY_NAME_ONLY:
            _contradict("has the name of", named, found or (kind,), textual=False)
    return kind


def _contradict(says: str, kind: str, found: tuple[str, ...], *, textual: bool) -> NoReturn:
    inside = found[0] if found else "text" if textual else "something else"
    raise UnfitError(f"{says} {kind} but holds {inside}")


def recognise(head: bytes) -> tuple[str, ...]:
    """Give the types that a content may have by its signature, the most likely one first; none where it has none."""
    if head.startswith(b"PK\3\4"):
        return _in_zip(head)
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], ())
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MOVIE)
    signed = next((kinds for beginning, kinds in _SIGNATURES if head.startswith(beginning)), ())
    framed = signed or next((kinds for pattern, kinds in _PATTERNS if pattern.match(head)), ())
    return framed or _markup(head.removeprefix(_MARK).lstrip(b" \t\r\n"))


def _in_zip(head: bytes) -> tuple[str, ...]:
    if (stored := _MIMETYPE.match(head)) is not None:
        return (stored[1].decode("ascii"), _ZIP)
    if not head[30:].startswith(_OPC):
        return (_ZIP, "application/java-archive", "application/vnd.android.package-archive", "application/epub+zip")
    kinds = tuple(kind for folder, kind in _IN_ZIP.items() if folder in head)
    return (*(kinds or _IN_ZIP.values()), _ZIP)


def _markup(head: bytes) -> tuple[str, ...]:
    if _HTML.match(head):
        return ("text/html", "application/xhtml+xml")
    if _SVG.match(head) or (head.startswith((b"<?xml", b"<!--", b"<!DOCTYPE")) and _SVG.search(head)):
        return ("image/svg+xml",)
    return ()


def is_text(head: bytes, *, whole: bool) -> bool:
    """Tell whether bytes are plausible text: UTF-8, perhaps cut inside a character, without control characters."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(head) is None


def is_textual(kind: str) -> bool:
    """Tell whether a type is one of text, whose bytes can be checked as such."""
    main, _, sub = kind.partition("/")
    return main == "text" or sub.endswith(("+json", "+xml")) or (main == "application" and sub in _TEXTS)


def is_allowed(kind: str, allowed: Collection[str]) -> bool:
    """Tell whether a type is one of `UPLOAD_TYPES`; what browsers run must be named there."""
    if kind in {_canonical(one) for one in allowed}:
        return True
    return f"{kind.partition('/')[0]}/*" in allowed and kind not in _BY_NAME_ONLY


def _canonical(kind: str) -> str:
    kind = kind.strip().lower()
    return _ALIASES.get(kind, kind)


def _declared(declared: str | None, named: str | None, *, textual: bool) -> str | None:
    kind = _canonical(declared or "")
    if kind == _EXCEL and named == "text/csv" and textual:
        return named  # Windows says so of every CSV file where Excel is installed
    return None if kind in {"", "application/octet-stream", "binary/octet-stream"} else kind


def _guessed(found: tuple[str, ...], named: str | None, *, textual: bool) -> str | None:
    if found:
        return named if named in found else found[0]
    if textual:
        return named if named is not None and is_textual(named) and named not in _SIGNED else "text/plain"
    return None
