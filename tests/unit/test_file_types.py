"""What a file's first bytes, its name and its sender say of its type, as a table."""

import io
import zipfile
from collections.abc import Sequence

import pytest

from chatcore.file_types import HEAD_BYTES, UnfitError, is_allowed, is_text, is_textual, judge, recognise

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
USUAL = ("image/*", "application/pdf", "text/plain")
ALL = ("image/*", "audio/*", "video/*", "text/*", "application/pdf", "application/zip", WORD, SHEET, SLIDES, ODT)


def zipped(*names: str, mimetype: str | None = None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        if mimetype is not None:
            archive.writestr("mimetype", mimetype)
        for name in names:
            archive.writestr(name, "x" * 50)
    return packed.getvalue()


DOCX = zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml")
CONTENTS: list[tuple[str, bytes]] = [
    ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ("image/jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    ("image/gif", b"GIF89a\1\0\1\0"),
    ("image/gif", b"GIF87a\1\0\1\0"),
    ("image/webp", b"RIFF\x24\0\0\0WEBPVP8 "),
    ("image/avif", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1"),
    ("image/heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ("image/bmp", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0"),
    ("image/tiff", b"II*\0\x08\0\0\0"),
    ("image/tiff", b"MM\0*\0\0\0\x08"),
    ("image/x-icon", b"\0\0\1\0\1\0\x10\x10"),
    ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("image/svg+xml", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg >'),
    ("image/svg+xml", b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x"><svg/>'),
    ("application/pdf", b"%PDF-1.7\n%\xe2\xe3"),
    ("application/rtf", b"{\\rtf1\\ansi"),
    ("application/x-ole-storage", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100)),
    ("application/zip", zipped("a.txt")),
    ("application/zip", zipped()),
    (WORD, DOCX),
    (SHEET, zipped("[Content_Types].xml", "xl/workbook.xml")),
    (SLIDES, zipped("ppt/presentation.xml")),
    (ODT, zipped("content.xml", mimetype=ODT)),
    ("application/epub+zip", zipped("x", mimetype="application/epub+zip")),
    ("application/gzip", b"\x1f\x8b\x08\0"),
    ("application/x-7z-compressed", b"7z\xbc\xaf'\x1c\0\4"),
    ("application/vnd.rar", b"Rar!\x1a\x07\1\0"),
    ("application/x-bzip2", b"BZh91AY"),
    ("application/x-xz", b"\xfd7zXZ\0\0"),
    ("application/zstd", b"\x28\xb5\x2f\xfd\4"),
    ("audio/mpeg", b"ID3\4\0\0"),
    ("audio/mpeg", b"\xff\xfb\x90\x64"),
    ("audio/aac", b"\xff\xf1\x50\x80"),
    ("audio/wav", b"RIFF\x24\0\0\0WAVEfmt "),
    ("audio/ogg", b"OggS\0\2"),
    ("audio/flac", b"fLaC\0\0"),
    ("audio/mp4", b"\0\0\0\x20ftypM4A \0\0\0\0"),
    ("audio/midi", b"MThd\0\0\0\6"),
    ("video/mp4", b"\0\0\0\x20ftypisom\0\0\2\0"),
    ("video/quicktime", b"\0\0\0\x14ftypqt  \0\0\0\0"),
    ("video/webm", b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1f\x42\x86"),
    ("video/x-msvideo", b"RIFF\x24\0\0\0AVI LIST"),
    ("text/html", b"<!DOCTYPE html><p>"),
    ("text/html", b"\xef\xbb\xbf \r\n<HTML>"),
    ("text/html", b"<script>alert(1)</script>"),
    ("application/x-executable", b"MZ\x90\0\3"),
    ("application/x-executable", b"\x7fELF\2\1\1"),
    ("application/vnd.sqlite3", b"SQLite format 3\0"),
    ("application/wasm", b"\0asm\1\0\0\0"),
]


@pytest.mark.parametrize(("kind", "content"), CONTENTS)
def test_a_content_with_a_signature_is_recognised(kind: str, content: bytes) -> None:
    assert recognise(content)[0] == kind


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"# Markdown\n<div>",
        b"<p>a piece",
        b"<?xml version='1.0'?><a/>",
        b"a,b\n1,2",
        b"{}",
        b"\0\0\0",
        b"RIFF",
    ],
)
def test_what_has_no_signature_is_not_recognised(content: bytes) -> None:
    assert recognise(content) == ()


@pytest.mark.parametrize(("kind", "content"), CONTENTS)
def test_what_is_declared_as_what_it_is_passes_and_as_anything_else_does_not(kind: str, content: bytes) -> None:
    whole = len(content) <= HEAD_BYTES
    assert judge(kind, "file", content, (kind,), whole=whole) == kind
    assert judge(None, "file", content, (kind,), whole=whole) == kind
    assert judge("application/octet-stream", "file", content, (kind,), whole=whole) == kind
    for other in ("image/png", "application/pdf", "audio/mpeg", "text/plain"):
        if other not in recognise(content):
            with pytest.raises(UnfitError, match="declared as"):
                judge(other, "file", content, (other,), whole=whole)


PNG, PDF, TEXT = CONTENTS[0][1], b"%PDF-1.7", b"plain text\n"
PASSES: list[tuple[str | None, str, bytes, Sequence[str], str]] = [
    ("image/png", "a.png", PNG, USUAL, "image/png"),
    ("IMAGE/PNG ", "A.PNG", PNG, USUAL, "image/png"),
    ("image/jpg", "a.jpg", CONTENTS[1][1], USUAL, "image/jpeg"),
    ("text/plain", "a.txt", "grüß dich".encode(), USUAL, "text/plain"),
    ("text/plain", "a.txt", b"", USUAL, "text/plain"),
    ("text/plain", "notes", b"", USUAL, "text/plain"),
    ("text/plain", "a.log", b"\xef\xbb\xbfwith a mark", USUAL, "text/plain"),
    ("text/plain", "README.md", TEXT, USUAL, "text/plain"),
    ("text/markdown", "README.md", TEXT, ("text/*",), "text/markdown"),
    ("", "README.md", TEXT, ("text/*",), "text/markdown"),
    (None, "a.csv", b"a,b", ("text/csv",), "text/csv"),
    ("application/vnd.ms-excel", "a.csv", b"a,b", ("text/csv",), "text/csv"),
    ("text/xml", "a.xml", b"<?xml version='1.0'?><a/>", ("text/xml",), "application/xml"),
    ("application/json", "a.json", b"{}", ("application/json",), "application/json"),
    ("application/octet-stream", "a.docx", DOCX, ALL, WORD),
    (WORD, "a.docx", zipped("[Content_Types].xml", "_rels/.rels"), ALL, WORD),
    ("application/x-zip-compressed", "a.zip", zipped("a"), ALL, "application/zip"),
    ("audio/webm", "voice.webm", b"\x1a\x45\xdf\xa3\x01", ALL, "audio/webm"),
    ("audio/mp4", "voice.m4a", b"\0\0\0\x20ftypisom\0\0\2\0", ALL, "audio/mp4"),
    ("image/svg+xml", "a.svg", b"<svg/>", ("image/svg+xml",), "image/svg+xml"),
    ("application/x-own", "a.own", b"\0\1\2 anything", ("application/x-own",), "application/x-own"),
    ("text/plain", "a.exe.txt", TEXT, USUAL, "text/plain"),
]


@pytest.mark.parametrize(("declared", "name", "content", "allowed", "kind"), PASSES)
def test_what_fits_together_passes(
    declared: str | None, name: str, content: bytes, allowed: Sequence[str], kind: str
) -> None:
    assert judge(declared, name, content, allowed, whole=True) == kind


REFUSED: list[tuple[str | None, str, bytes, Sequence[str], str]] = [
    ("image/svg+xml", "a.svg", b"<svg/>", USUAL, "has the type image/svg+xml; accepted are image/*, application/pdf"),
    ("image/png", "a.png", b"<svg/>", USUAL, "was declared as image/png but holds image/svg+xml"),
    ("image/png", "a.png", PDF, USUAL, "was declared as image/png but holds application/pdf"),
    ("image/png", "a.png", TEXT, USUAL, "was declared as image/png but holds text"),
    ("image/png", "a.png", b"\0\1\2", USUAL, "was declared as image/png but holds something else"),
    ("image/png", "a.pdf", PNG, USUAL, "has the name of application/pdf but holds image/png"),
    ("image/png", "a.exe", PNG, USUAL, "has the name of application/x-executable but holds image/png"),
    ("image/png", "a.png", b"", USUAL, "is empty"),
    ("application/pdf", "a.pdf", b"", USUAL, "is empty"),
    (None, "a", b"", USUAL, "is of a type that was neither declared nor recognised"),
    (None, "a", b"\0\1\2", USUAL, "is of a type that was neither declared nor recognised"),
    ("text/plain", "a.txt", b"a\0b", USUAL, "must be text in UTF-8 without control characters"),
    ("text/plain", "a.txt", b"a\x1bb", USUAL, "must be text in UTF-8 without control characters"),
    ("text/plain", "a.txt", b"gr\xfc\xdfe", USUAL, "must be text in UTF-8 without control characters"),
    ("text/plain", "a.txt", "ü".encode()[:1], USUAL, "must be text in UTF-8 without control characters"),
    ("text/plain", "a.html", TEXT, USUAL, "has the name of text/html but holds text/plain"),
    ("text/plain", "a.js", TEXT, USUAL, "has the name of text/javascript but holds text/plain"),
    ("text/plain", "a.txt", b"<html>", USUAL, "was declared as text/plain but holds text/html"),
    ("text/plain", "a.png", TEXT, USUAL, "has the name of image/png but holds text/plain"),
    ("text/html", "a.html", b"<html>", ("text/*",), "has the type text/html; accepted are text/*"),
    ("text/csv", "a.csv", b"a", USUAL, "has the type text/csv; accepted are image/*, application/pdf, text/plain"),
    ("application/zip", "a.docx", zipped("a"), ALL, f"has the name of {WORD} but holds application/zip"),
    (WORD, "a.docx", zipped("a"), ALL, f"was declared as {WORD} but holds application/zip"),
    (
        "application/x-own",
        "a.own",
        PNG,
        ("application/x-own",),
        "was declared as application/x-own but holds image/png",
    ),
    ("application/vnd.ms-excel", "a.csv", b"a,b", USUAL, "has the type text/csv; accepted are"),
    ("application/x-msdownload", "a.exe", b"MZ\0", USUAL, "has the type application/x-executable"),
    ("image", "a", PNG, USUAL, "has a Content-Type that is none"),
    ("image/png\rx: y", "a", PNG, USUAL, "has a Content-Type that is none"),
    ("image/ü", "a", PNG, USUAL, "has a Content-Type that is none"),
]


@pytest.mark.parametrize(("declared", "name", "content", "allowed", "said"), REFUSED)
def test_what_does_not_fit_is_told(
    declared: str | None, name: str, content: bytes, allowed: Sequence[str], said: str
) -> None:
    with pytest.raises(UnfitError) as refused:
        judge(declared, name, content, allowed, whole=True)
    assert str(refused.value).startswith(said)


def test_text_may_be_cut_inside_a_character() -> None:
    cut = ("ü" * 3000).encode()[: HEAD_BYTES - 1]
    assert is_text(cut, whole=False)
    assert not is_text(cut, whole=True)


def test_types_of_text_are_known() -> None:
    texts = {"text/plain", "text/x-own", "application/json", "application/ld+json", "image/svg+xml", "application/xml"}
    others = {"application/pdf", "image/png", "application/x-own", "font/woff2"}
    assert {kind for kind in texts | others if is_textual(kind)} == texts


def test_a_kind_allows_all_of_it_but_what_browsers_run() -> None:
    assert is_allowed("image/x-own", ("image/*",))
    assert not is_allowed("image/svg+xml", ("image/*",))
    assert is_allowed("image/svg+xml", ("image/*", "image/svg+xml"))
    assert is_allowed("image/jpeg", ("image/jpg",)), "another name of the same"
    assert not is_allowed("imagex/png", ("image/*",))
