"""Starts a built image's file system as an engine would, chats with it, and looks for what must not be in it.

Called by `run` as `try_image.py MODE CONFIGURATION BASE IMAGE`: which main it is for, what `buildah inspect` says, and
the file systems of the base and of the image.
"""

import contextlib
import filecmp
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEGABYTE = 1_000_000
MOST_ADDED_BYTES = 60 * MEGABYTE
MOST_SECONDS_TO_SERVE = 10
MOST_SECONDS_TO_STOP = 10
MOST_SECONDS_OF_HEALTHCHECK = 1.0
NOT_INSIDE = {"gcc", "cc", "g++", "make", "ld", "git", "pip", "pip3", "setuptools", "wheel", "ensurepip"}
NOT_INSIDE |= {".git", ".env", ".cache", "tests", "docs", "bench", "Dockerfile", "README.md", "requirements-dev.txt"}
CACHES = ("var/cache/apt/archives", "var/lib/apt/lists", "root/.cache", "tmp", "mnt", "run/secrets", "build")
PLACES = ("opt/venv", "app")
OURS = Path(__file__).resolve().parents[2] / "chatcore"
EXIT_WRONG = 2
ADMIN_TOKEN = "for-the-figures-of-this-run-alone-0001"

# Binds the file system read-only with a small /tmp, and becomes the image's process: one id from here to its end.
# `volumes` are lines: a folder outside, its place inside, how it is mounted.
START = """
set -e
root=$1 user=$2 folder=$3 volumes=$4
shift 4
mount --bind "$root" "$root"
mount -t proc -o ro,nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o size=16m,mode=1777,nosuid,nodev,noexec tmpfs "$root/tmp"
mount -t tmpfs -o size=1m,nosuid,noexec,mode=755 tmpfs "$root/dev"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
mount -o remount,ro,bind "$root"
while IFS='\t' read -r outside inside access; do
    [ -n "$inside" ] || continue
    mount --bind "$outside" "$root$inside"
    mount -o "remount,bind,nosuid,nodev,$access" "$root$inside"
done <<<"$volumes"
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot,+setuid,+setgid \
    chroot --userspec="$user" --groups= "$root" /usr/bin/env -i -C "$folder" "$@"
"""


def check(condition: object, sentence: str) -> None:
    """End with `sentence` unless `condition` holds."""
    if not condition:
        raise SystemExit(f"FAILED: {sentence}")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Image:
    """A built image: its configuration and its file system."""

    def __init__(self, mode: str, configuration: Path, root: Path) -> None:
        self.mode = mode
        self.configuration: dict[str, Any] = json.loads(configuration.read_text("utf-8"))["Docker"]["config"]
        self.root = root
        self.user: str = self.configuration.get("User", "")
        self._volumes: tuple[str, ...] = ()

    @contextlib.contextmanager
    def on(self, volume: Path, access: str = "rw") -> Iterator[None]:
        """Have a folder in the place of each volume, meanwhile."""
        self._volumes = tuple(f"{volume}\t{place}\t{access}" for place in self.volumes())
        try:
            yield
        finally:
            self._volumes = ()

    def volumes(self) -> list[str]:
        """Give the places of the volumes."""
        return list(self.configuration.get("Volumes") or ())

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """Give what runs `arguments` in the image, as its user, nothing of it writable but /tmp and the volumes."""
        wanted = [*self.configuration["Env"], *(f"{name}={value}" for name, value in environment.items())]
        start = ["unshare", "--mount", "bash", "-c", START, "start"]
        places = [str(self.root), self.user, self.configuration["WorkingDir"], "\n".join(self._volumes)]
        return [*start, *places, *wanted, *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        command = self.command(*arguments, **environment)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def do(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the entry point with arguments to the end."""
        return self.run(*self.configuration["Entrypoint"], *arguments, **environment)

    @contextlib.contextmanager
    def serving(self, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
        """Start the entry point; gives the process, its address and the seconds until it served."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = self.command(*self.configuration["Entrypoint"], *options, API_PORT=str(port), **environment)
        began = time.monotonic()
        process = subprocess.Popen(command)
        try:
            yield process, f"http://127.0.0.1:{port}", _wait(process, f"http://127.0.0.1:{port}/health/live", began)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, began: float) -> float:
    while True:
        check(process.poll() is None, f"the image ended with status {process.returncode}")
        check(time.monotonic() - began < MOST_SECONDS_TO_SERVE, "the image does not serve")
        with contextlib.suppress(OSError):
            _ask(address)
            return time.monotonic() - began
        time.sleep(0.02)


def _ask(address: str, body: dict[str, str] | None = None, **headers: str) -> str:
    """GET, or POST a body; gives the answer's text. Raises `OSError` where there is none, or an error."""
    place = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    try:
        if body is None:
            connection.request("GET", place.path, headers=headers)
        else:
            connection.request("POST", place.path, json.dumps(body), {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise OSError(f"{response.status} {text}")
    return text


def size_of(folder: Path) -> int:
    """Give the bytes of all files below a folder; hard links count once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            status = Path(parent, name).lstat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def check_configuration(image: Image) -> None:
    """The configuration is what an orchestrator relies on."""
    config = image.configuration
    uid, _, gid = image.user.partition(":")
    check(uid.isdigit() and gid.isdigit() and int(uid) >= 1000, f"the user is {image.user!r}, not two numbers")
    check(config["Entrypoint"] == ["python", f"main_{image.mode}.py"], f"the entry point is {config['Entrypoint']}")
    check(config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15"), "the image is not stopped by SIGTERM")
    check("8000/tcp" in config["ExposedPorts"], "port 8000 is not exposed")
    check(config["Healthcheck"]["Test"][0] == "CMD", "the health check is not in exec form")
    check("org.opencontainers.image.version" in config["Labels"], "labels are missing")
    check(image.mode in config["Labels"]["org.opencontainers.image.title"], "the title tells another mode")
    check(image.volumes() == ([] if image.mode == "stateless" else ["/data"]), f"its volumes are {image.volumes()}")


def check_contents(image: Image, base: Path) -> None:
    """Nothing that builds, tests or belongs to this machine is inside, and what we add is small."""
    known = {path for path in _paths(base) if path.parts[0] not in ("app", "opt")}
    added = [path for path in _paths(image.root) if path not in known]
    for place in PLACES:
        check((image.root / place).is_dir(), f"/{place} is missing")
    check_ours(image)
    strangers = [str(path) for path in _paths(image.root) if path.name in NOT_INSIDE and not _is_elses(path, base)]
    check(not strangers, f"inside the image: {strangers[:5]}")
    for place in CACHES:
        left = [path for path in (image.root / place).rglob("*") if path.is_file()]
        check(not left, f"/{place} holds {[str(path) for path in left[:3]]}")
    check(not (image.root / "etc/pip.conf").exists(), "pip's configuration is inside")
    check(not list(image.root.glob("mnt/*")), "what was lent to the build left a trace")
    for path in added:
        file = image.root / path
        if file.is_file() and not file.is_symlink():
            mode = file.stat().st_mode
            check(mode & 0o444 == 0o444 and not mode & 0o6022, f"/{path} has the mode {mode:o}")
            check(b"file:///mnt" not in file.read_bytes(), f"/{path} tells where the packages came from")
    sizes = {place: size_of(image.root / place) for place in PLACES}
    sizes["bytecode of the standard library"] = sum(
        (image.root / path).lstat().st_size for path in added if path.parts[0] not in ("app", "opt")
    )
    total = sum(sizes.values())
    named = ", ".join(f"{name} {size / MEGABYTE:.1f} MB" for name, size in sizes.items())
    say(f"added to the base: {total / MEGABYTE:.1f} MB ({named}); in all {size_of(image.root) / MEGABYTE:.1f} MB")
    check(total <= MOST_ADDED_BYTES, f"more is added than {MOST_ADDED_BYTES / MEGABYTE:.0f} MB")


def check_ours(image: Image) -> None:
    """All of chatcore is inside, migrations and what browsers are served too, and the main and packages of one mode."""
    app = image.root / "app"
    mains = sorted(path.name for path in app.iterdir() if path.name != "chatcore")
    check(mains == [f"main_{image.mode}.py"], f"beside chatcore there is {mains}")
    files = [str(path) for path in _paths(OURS) if (OURS / path).is_file() and path.suffix != ".pyc"]
    _, other, missing = filecmp.cmpfiles(OURS, app / "chatcore", files, shallow=False)
    check(not missing and not other, f"of chatcore {missing[:3]} are missing, {other[:3]} differ")
    drivers = [path.name for path in image.root.glob("opt/venv/lib/python*/site-packages/aiosqlite")]
    check(len(drivers) == (image.mode == "sqlite"), f"its database drivers are {drivers}")


def check_service(image: Image) -> None:
    """It serves, chats, reports its health, and stops when told, all on a file system that it cannot write."""
    written = image.run("python", "-c", "open('/app/x', 'w')")
    check("Read-only file system" in written.stderr or "Permission denied" in written.stderr, "it can write to /app")
    who = image.run("python", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())").stdout.split()
    check(who[:2] == image.user.split(":"), f"it runs as {who}")
    with image.serving("--demo", LOG_FORMAT="json") as (process, address, seconds):
        health = json.loads(_ask(f"{address}/health"))
        check(health["status"] == "ok" and health["mode"] == image.mode, f"its health is {health}")
        version = image.configuration["Labels"]["org.opencontainers.image.version"]
        check(health["version"] == version, f"it is version {health['version']}, its label says {version}")
        _chat(address, _new_token(address))
        check(_healthy(image, address) == 0, "the health check fails while it serves")
        took = min(_timed(image, address) for _ in range(3))
        check(took < MOST_SECONDS_OF_HEALTHCHECK, f"the health check takes {took:.2f} s")
        memory = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        stopped = _stop(process)
    check(_healthy(image, address) != 0, "the health check succeeds where nothing serves")
    say(f"served after {seconds:.2f} s with {memory / MEGABYTE:.0f} MB, stopped after {stopped:.2f} s")
    say(f"the health check takes {took * 1000:.0f} ms, starting and mounting included")


def check_file(image: Image, volume: Path) -> None:
    """What SQLite mode keeps is on the volume, serves its commands beside the server, and survives a restart."""
    with image.serving("--demo", LOG_FORMAT="json", ADMIN_TOKEN=ADMIN_TOKEN) as (process, address, _):
        token = _new_token(address)
        _chat(address, token)
        check(_figures(address)["messages"] == 1, "the message is not in the figures")
        check("<html" in _ask(f"{address}/admin"), "the operators' page is missing")
        shown = image.do("stats", "--json")
        check(shown.returncode == 0, f"stats: {shown.stderr}")
        check(json.loads(shown.stdout)["totals"]["messages"] == 1, f"stats shows {shown.stdout}")
        copied = image.do("backup", "/data/backup.db")
        check(copied.returncode == 0 and "complete and sound" in copied.stdout, f"backup: {copied.stderr}")
        second = image.do("--demo", API_PORT="0")  # in another container, with the same volume
        check(second.returncode == EXIT_WRONG, f"a second server ends with status {second.returncode}")
        check("another server" in second.stderr, f"a second server is told {second.stderr!r}")
        _stop(process)
    kept = {path.name for path in volume.iterdir()}
    wanted = {"chat_sessions.db", "chat_sessions.db.secrets", "backup.db"}
    check(kept == wanted, f"after a stop there is {sorted(kept)}")
    for path in volume.iterdir():
        status = path.stat()
        check(f"{status.st_uid}:{status.st_gid}" == image.user, f"{path.name} belongs to {status.st_uid}")
        check(status.st_mode & 0o7777 == 0o600, f"{path.name} has the mode {status.st_mode:o}")
    with image.serving("--demo", LOG_FORMAT="json", ADMIN_TOKEN=ADMIN_TOKEN) as (process, address, _):
        _chat(address, token)
        figures = _figures(address)
        check((figures["messages"], figures["sessions"]) == (2, 1), f"after a restart the figures are {figures}")
        _stop(process)


def check_refusal(image: Image) -> None:
    """A volume that its user cannot write ends it at once, with a sentence that names the place."""
    done = image.do("--demo", API_PORT="0")
    check(done.returncode == EXIT_WRONG, f"with a volume that it cannot write it ends with {done.returncode}")
    check("cannot start" in done.stderr and "/data/chat_sessions.db" in done.stderr, f"it says {done.stderr!r}")
    check("Traceback" not in done.stderr, f"it says {done.stderr!r}")
    say(" ".join(done.stderr.split()))


@contextlib.contextmanager
def new_volume(image: Image) -> Iterator[Path]:
    """Make a folder as an engine makes a new named volume: with the owner and mode of what it covers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in image.volumes():
            covered = (image.root / place.lstrip("/")).stat()
            check(f"{covered.st_uid}:{covered.st_gid}" == image.user, f"{place} belongs to {covered.st_uid}")
            check(covered.st_mode & 0o7777 == 0o700, f"{place} has the mode {covered.st_mode:o}")
            os.chown(folder, covered.st_uid, covered.st_gid)
            folder.chmod(covered.st_mode & 0o7777)
        yield folder


def _new_token(address: str) -> str:
    token: str = json.loads(_ask(f"{address}/api/v1/session", {}))["token"]
    return token


def _chat(address: str, token: str) -> None:
    said = _ask(
        f"{address}/api/v1/chat",
        {"message": "/echo from inside the image"},
        Authorization=f"Bearer {token}",
        Accept="text/event-stream",
    )
    words = [json.loads(line[6:]).get("content", "") for line in said.splitlines() if line.startswith("data: ")]
    check("from inside the image" in "".join(words) and "event: done" in said, f"it answered {said[-300:]!r}")


def _figures(address: str) -> dict[str, Any]:
    told = _ask(f"{address}/api/v1/admin/analytics", Authorization=f"Bearer {ADMIN_TOKEN}")
    totals: dict[str, Any] = json.loads(told)["totals"]
    return totals


def _stop(process: subprocess.Popen[bytes]) -> float:
    """Stop it as an engine does; gives the seconds that it takes."""
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    status = process.wait(MOST_SECONDS_TO_STOP)
    check(status == 0, f"SIGTERM ends it with status {status}")
    return time.monotonic() - began


def _healthy(image: Image, address: str) -> int:
    return image.run(*image.configuration["Healthcheck"]["Test"][1:], API_PORT=address.rpartition(":")[2]).returncode


def _timed(image: Image, address: str) -> float:
    began = time.monotonic()
    _healthy(image, address)
    return time.monotonic() - began


def _paths(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        for name in (*folders, *names):
            yield Path(parent, name).relative_to(root)


def _is_elses(path: Path, base: Path) -> bool:
    # Packages have folders called tests of their own; what is asked for is ours.
    return os.path.lexists(base / path) or "site-packages" in path.parts


def main(mode: str, configuration: Path, base: Path, root: Path) -> None:
    """Check everything; ends with a sentence at the first fault."""
    image = Image(mode, configuration, root)
    check_configuration(image)
    check_contents(image, base)
    with new_volume(image) as volume, image.on(volume):
        check_service(image)
    if not image.volumes():
        return
    with new_volume(image) as volume:
        with image.on(volume):
            check_file(image, volume)
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
            check_file(image, folder)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
