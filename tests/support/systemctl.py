"""`systemctl` and `journalctl` for a folder that stands for a machine: the few verbs that our documents use."""

import os
import sys
from pathlib import Path

from tests.support import systemd


def _running(root: Path, name: str) -> int | None:
    """Give the number of the unit's process, if it runs."""
    file = root / "run" / f"{name}.pid"
    if not file.exists():
        return None
    pid = int(file.read_text())
    return pid if systemd.runs(pid, root) else None


def start(root: Path, name: str) -> None:
    """Start an instance."""
    if _running(root, name) is None:
        pid = systemd.Unit(root, name).start(root / "run" / f"{name}.log")
        (root / "run" / f"{name}.pid").write_text(str(pid))


def stop(root: Path, name: str) -> None:
    """Stop an instance; one that does not end in time is a failure."""
    pid = _running(root, name)
    if pid is not None and not systemd.stop(pid, systemd.Unit(root, name).seconds("TimeoutStopSec")):
        sys.exit(f"{name} did not end in time")


def main(program: str, root: Path, arguments: list[str]) -> None:
    """Do what was asked for."""
    words = [word for word in arguments if not word.startswith("-")]
    (root / "run").mkdir(exist_ok=True)
    name = words[-1]
    if program == "journalctl":
        print((root / "run" / f"{name}.log").read_text(), end="")  # noqa: T201 - it is a command
    elif words == ["daemon-reload"]:
        assert (root / "etc/systemd/system").is_dir()
    elif words[0] == "enable":
        unit = systemd.Unit(root, name)
        wanted = root / f"etc/systemd/system/{unit.value('WantedBy')}.wants"
        wanted.mkdir(exist_ok=True)
        (wanted / f"{name}.service").symlink_to(unit.file)
        if "--now" in arguments:
            start(root, name)
    elif words[0] == "restart":
        stop(root, name)
        start(root, name)
    elif words[0] == "stop":
        stop(root, name)
    elif words[0] == "status":
        sys.exit(3 if _running(root, name) is None else 0)
    else:
        sys.exit(f"no such verb: {' '.join(arguments)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).name, Path(os.environ["MACHINE"]), sys.argv[2:])
