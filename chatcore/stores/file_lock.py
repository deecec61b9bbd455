"""The right to serve a file: one process at a time, by a lock beside it."""

import contextlib
import os
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from chatcore.ports import StoreFaultError

_PRIVATE = 0o600


class Lock:
    """The right to serve a file, held through `<file>.lock` until released; the system ends it with the process."""

    def __init__(self, path: Path, setting: str) -> None:
        """Take it at once. Raises `StoreFaultError` where another server has it; `setting` names the file."""
        self._path = path.with_name(f"{path.name}.lock")
        while True:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
            try:
                flock(self._file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip()
                os.close(self._file)
                raise StoreFaultError(
                    f"another server{f' (process {holder})' if holder else ''} serves {path}",
                    f"Stop that one first, or give this one a file of its own by {setting}.",
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file), self._path.stat()):
                    break
            os.close(self._file)  # its holder ended and removed it meanwhile
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, b"%d\n" % os.getpid(), 0)
        except OSError:  # no room
            self.release()
            raise

    def release(self) -> None:
        """Give it up; may be called twice."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1
