"""Starts a built image's file system as an engine would, chats with it, and looks for what must not be in it.

Called by `run` as `try_image.py CONFIGURATION BASE IMAGE`: what `buildah inspect` says, and the file systems of the
base and of the image.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
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

# Binds the file system read-only with a small /tmp, and becomes the image's process: one id from here to its end.
START = """
set -e
root=$1 user=$2 folder=$3
shift 3
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

    def __init__(self, configuration: Path, root: Path) -> None:
        self.configuration: dict[str, Any] = json.loads(configuration.read_text("utf-8"))["Docker"]["config"]
        self.root = root
        self.user: str = self.configuration.get("User", "")

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """Give what runs `arguments` in the image, as its user, nothing of it writable but /tmp."""
        wanted = [*self.configuration["Env"], *(f"{name}={value}" for name, value in environment.items())]
        start = ["unshare", "--mount", "bash", "-c", START, "start"]
        return [*start, str(self.root), self.user, self.configuration["WorkingDir"], *wanted, *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        command = self.command(*arguments, **environment)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

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
    check(config["Entrypoint"][0] == "python", "the entry point is no exec form of python")
    check(config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15"), "the image is not stopped by SIGTERM")
    check("8000/tcp" in config["ExposedPorts"], "port 8000 is not exposed")
    check(config["Healthcheck"]["Test"][0] == "CMD", "the health check is not in exec form")
    check("org.opencontainers.image.version" in config["Labels"], "labels are missing")


def check_contents(image: Image, base: Path) -> None:
    """Nothing that builds, tests or belongs to this machine is inside, and what we add is small."""
    known = {path for path in _paths(base) if path.parts[0] not in ("app", "opt")}
    added = [path for path in _paths(image.root) if path not in known]
    for place in PLACES:
        check((image.root / place).is_dir(), f"/{place} is missing")
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


def check_service(image: Image) -> None:
    """It serves, chats, reports its health, and stops when told, all on a file system that it cannot write."""
    written = image.run("python", "-c", "open('/app/x', 'w')")
    check("Read-only file system" in written.stderr or "Permission denied" in written.stderr, "it can write to /app")
    who = image.run("python", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())").stdout.split()
    check(who[:2] == image.user.split(":"), f"it runs as {who}")
    with image.serving("--demo", LOG_FORMAT="json") as (process, address, seconds):
        health = json.loads(_ask(f"{address}/health"))
        check(health["status"] == "ok" and health["mode"] == "stateless", f"its health is {health}")
        version = image.configuration["Labels"]["org.opencontainers.image.version"]
        check(health["version"] == version, f"it is version {health['version']}, its label says {version}")
        token = json.loads(_ask(f"{address}/api/v1/session", {}))["token"]
        said = _ask(
            f"{address}/api/v1/chat",
            {"message": "/echo from inside the image"},
            Authorization=f"Bearer {token}",
            Accept="text/event-stream",
        )
        words = [json.loads(line[6:]).get("content", "") for line in said.splitlines() if line.startswith("data: ")]
        check("from inside the image" in "".join(words) and "event: done" in said, f"it answered {said[-300:]!r}")
        check(_healthy(image, address) == 0, "the health check fails while it serves")
        took = min(_timed(image, address) for _ in range(3))
        check(took < MOST_SECONDS_OF_HEALTHCHECK, f"the health check takes {took:.2f} s")
        memory = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        status = process.wait(MOST_SECONDS_TO_STOP)
        check(status == 0, f"SIGTERM ends it with status {status}")
        stopped = time.monotonic() - began
    check(_healthy(image, address) != 0, "the health check succeeds where nothing serves")
    say(f"served after {seconds:.2f} s with {memory / MEGABYTE:.0f} MB, stopped after {stopped:.2f} s")
    say(f"the health check takes {took * 1000:.0f} ms, starting and mounting included")


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


def main(configuration: Path, base: Path, root: Path) -> None:
    """Check everything; ends with a sentence at the first fault."""
    image = Image(configuration, root)
    check_configuration(image)
    check_contents(image, base)
    check_service(image)
    say("1 passed, 0 failed")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
