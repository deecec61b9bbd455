"""What the kernel knows of a server's processes: processor time to the nanosecond, resident memory."""

import contextlib
import os
import signal
from pathlib import Path


class ProcessTree:
    """A process, its threads and all its descendants."""

    def __init__(self, pid: int) -> None:
        """Find who belongs to it; call `refresh` after processes or threads were started."""
        self._pid = pid
        self._pids: list[int] = []
        self._schedstats: list[Path] = []
        self.refresh()

    def refresh(self) -> None:
        """Look for descendants and threads again."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                parent = _parent(entry)
                if parent is not None:
                    children.setdefault(parent, []).append(int(entry.name))
        self._pids = [self._pid]
        for pid in self._pids:
            self._pids.extend(children.get(pid, []))
        self._schedstats = [task / "schedstat" for pid in self._pids for task in Path(f"/proc/{pid}/task").iterdir()]

    def cpu_seconds(self) -> float:
        """Tell the processor time spent so far (the scheduler's count, which is exact; not the 10 ms ticks)."""
        total = 0
        for path in self._schedstats:
            try:
                total += int(path.read_bytes().split(b" ", 1)[0])
            except OSError:  # a thread that has ended
                continue
        return total / 1e9

    def kill(self) -> None:
        """End all of them at once, the first process first."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def rss_bytes(self) -> int:
        """Tell the resident memory of all its processes together."""
        page = os.sysconf("SC_PAGE_SIZE")
        return page * sum(int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) for pid in self._pids)


def _parent(process: Path) -> int | None:
    try:
        stat = (process / "stat").read_text("latin-1")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])
