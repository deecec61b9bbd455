"""Starts a built image's file system as an engine would, chats with it, and looks for what must not be in it.

Called by `run` with the arguments MODE CONFIGURATION BASE IMAGE: which main it is for, what `buildah inspect` says, and
the file systems of the base and of the image.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.images import try_databases
from tests.images.contents import MEGABYTE, check_configuration, check_contents
from tests.images.image import (
    ADMIN_TOKEN,
    EXIT_WRONG,
    Image,
    ask,
    chat,
    check,
    figures,
    health_of,
    new_token,
    new_volume,
    say,
    stop,
    until,
)

MOST_SECONDS_OF_HEALTHCHECK = 1.0


def check_service(image: Image) -> None:
    """It serves, chats, reports its health, and stops when told, all on a file system that it cannot write."""
    written = image.run("python", "-c", "open('/app/x', 'w')")
    check("Read-only file system" in written.stderr or "Permission denied" in written.stderr, "it can write to /app")
    who = image.run("python", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())").stdout.split()
    check(who[:2] == image.user.split(":"), f"it runs as {who}")
    with image.serving("--demo", LOG_FORMAT="json") as (process, address, seconds):
        until(lambda: health_of(address)["status"] == "ok", f"its health is {health_of(address)}")
        health = health_of(address)
        check(health["mode"] == image.mode, f"its health is {health}")
        version = image.configuration["Labels"]["org.opencontainers.image.version"]
        check(health["version"] == version, f"it is version {health['version']}, its label says {version}")
        chat(address, new_token(address))
        check(_healthy(image, address) == 0, "the health check fails while it serves")
        took = min(_timed(image, address) for _ in range(3))
        check(took < MOST_SECONDS_OF_HEALTHCHECK, f"the health check takes {took:.2f} s")
        memory = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        stopped = stop(process)
    check(_healthy(image, address) != 0, "the health check succeeds where nothing serves")
    say(f"served after {seconds:.2f} s with {memory / MEGABYTE:.0f} MB, stopped after {stopped:.2f} s")
    say(f"the health check takes {took * 1000:.0f} ms, starting and mounting included")


def check_file(image: Image, volume: Path) -> None:
    """What SQLite mode keeps is on the volume, serves its commands beside the server, and survives a restart."""
    with image.serving("--demo", LOG_FORMAT="json", ADMIN_TOKEN=ADMIN_TOKEN) as (process, address, _):
        token = new_token(address)
        chat(address, token)
        check(figures(address)["messages"] == 1, "the message is not in the figures")
        check("<html" in ask(f"{address}/admin"), "the operators' page is missing")
        shown = image.do("stats", "--json")
        check(shown.returncode == 0, f"stats: {shown.stderr}")
        check(json.loads(shown.stdout)["totals"]["messages"] == 1, f"stats shows {shown.stdout}")
        copied = image.do("backup", "/data/backup.db")
        check(copied.returncode == 0 and "complete and sound" in copied.stdout, f"backup: {copied.stderr}")
        second = image.do("--demo", API_PORT="0")  # in another container, with the same volume
        check(second.returncode == EXIT_WRONG, f"a second server ends with status {second.returncode}")
        check("another server" in second.stderr, f"a second server is told {second.stderr!r}")
        stop(process)
    kept = {path.name for path in volume.iterdir()}
    wanted = {"chat_sessions.db", "chat_sessions.db.secrets", "backup.db"}
    check(kept == wanted, f"after a stop there is {sorted(kept)}")
    for path in volume.iterdir():
        status = path.stat()
        check(f"{status.st_uid}:{status.st_gid}" == image.user, f"{path.name} belongs to {status.st_uid}")
        check(status.st_mode & 0o7777 == 0o600, f"{path.name} has the mode {status.st_mode:o}")
    with image.serving("--demo", LOG_FORMAT="json", ADMIN_TOKEN=ADMIN_TOKEN) as (process, address, _):
        chat(address, token)
        totals = figures(address)
        check((totals["messages"], totals["sessions"]) == (2, 1), f"after a restart the figures are {totals}")
        stop(process)


def check_refusal(image: Image) -> None:
    """A volume that its user cannot write ends it at once, with a sentence that names the place."""
    done = image.do("--demo", API_PORT="0")
    check(done.returncode == EXIT_WRONG, f"with a volume that it cannot write it ends with {done.returncode}")
    place = image.variable("SQLITE_DB_PATH" if image.mode == "sqlite" else "SPOOL_PATH")
    check("cannot start" in done.stderr and place in done.stderr, f"it says {done.stderr!r}")
    check("Traceback" not in done.stderr, f"it says {done.stderr!r}")
    say(" ".join(done.stderr.split()))


def _healthy(image: Image, address: str) -> int:
    return image.run(*image.configuration["Healthcheck"]["Test"][1:], API_PORT=address.rpartition(":")[2]).returncode


def _timed(image: Image, address: str) -> float:
    began = time.monotonic()
    _healthy(image, address)
    return time.monotonic() - began


def check_volumes(image: Image, keeps: Callable[[Image, Path], None]) -> None:
    """It `keeps` what it must on any volume that it can write, and refuses to start on any other."""
    with new_volume(image) as volume:
        with image.on(volume):
            keeps(image, volume)
        with image.on(volume, "ro"):
            check_refusal(image)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for access in (0o755, 0o700):  # a folder that is mounted without a thought of its owner
            folder.chmod(access)
            with image.on(folder):
                check_refusal(image)
        os.chown(folder, 0, int(image.user.partition(":")[2]))  # what Kubernetes makes of a volume, by fsGroup
        folder.chmod(0o2770)
        with image.on(folder):
            keeps(image, folder)


def check_running(image: Image) -> None:
    """What can be told without looking at a volume."""
    with new_volume(image) as volume, image.on(volume):
        check_service(image)


def main(mode: str, configuration: Path, base: Path, root: Path) -> None:
    """Check everything; ends with a sentence at the first fault."""
    image = Image(mode, configuration, root)
    check_configuration(image)
    check_contents(image, base)
    if mode != "postgres":
        check_running(image)
        if image.volumes():
            check_volumes(image, check_file)
        return
    with try_databases.databases(image) as postgres:
        check_running(image)
        check_volumes(image, try_databases.check_databases)
        with new_volume(image) as volume, image.on(volume):
            try_databases.check_workers(image, volume)
            try_databases.check_outage(image, volume, postgres)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
