"""Where an export is written: lines to a file or to standard output, or a file for each session in a folder.

What has a name appears under it when it is complete, readable by its owner alone; before that nothing is replaced.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from chatcore.ports import StoreFaultError

Write = Callable[[str, Iterable[str]], None]
"""Writes one document: its session's id, its pieces."""

BUFFER_BYTES = 1 << 20
_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700


@contextlib.contextmanager
def lines(path: Path | None) -> Iterator[Write]:
    """Give what writes a line for each document, to standard output where no file is named.

    Raises `StoreFaultError`.
    """
    if path is None:
        yield _line_writer(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with _told(path):
        if path.exists() and not path.is_file():  # a pipe, /dev/null
            with path.open("wb", BUFFER_BYTES) as there:
                yield _line_writer(there)
            return
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with _new_file(part) as file:
                yield _line_writer(file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Write]:
    """Give what writes a file `<session>.json` for each document. Raises `StoreFaultError`.

    The folder must not be there yet, or be empty.
    """
    with _told(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            said = f"{path} is {'not empty' if path.is_dir() else 'no folder'}"
            raise StoreFaultError(said, "Name a folder that is not there yet, or is empty. Nothing was changed.")
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.mkdir(_PRIVATE_FOLDER)
        try:

            def write(session_id: str, pieces: Iterable[str]) -> None:
                with _new_file(part / f"{session_id.replace('/', '_')}.json") as file:
                    _line_writer(file)(session_id, pieces)

            yield write
            part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _line_writer(to: BinaryIO) -> Write:
    def write(_: str, pieces: Iterable[str]) -> None:
        to.writelines(piece.encode() for piece in pieces)
        to.write(b"\n")

    return write


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that nobody else can read, on the disk when this ends."""
    opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE)
    with os.fdopen(opened, "wb", BUFFER_BYTES) as file:
        yield file
        file.flush()
        os.fsync(opened)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        said = f"{path} cannot be written: {error.strerror}"
        raise StoreFaultError(said, "Name a place by --output that this user may write, with room.") from error
