"""A built image's file system, started as an engine would start it, and what is asked of the server in it."""

import contextlib
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_SECONDS_TO_SERVE = 10
MOST_SECONDS_TO_STOP = 10
MOST_SECONDS_TO_NOTICE = 30
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


def until(condition: Callable[[], object], sentence: str) -> None:
    """Wait until `condition` holds; end with `sentence` where it does not come to hold."""
    began = time.monotonic()
    while not condition():
        check(time.monotonic() - began < MOST_SECONDS_TO_NOTICE, sentence)
        time.sleep(0.05)


class Image:
    """A built image: its configuration and its file system. `settings` are variables that all of its processes get."""

    def __init__(self, mode: str, configuration: Path, root: Path) -> None:
        self.mode = mode
        self.configuration: dict[str, Any] = json.loads(configuration.read_text("utf-8"))["Docker"]["config"]
        self.root = root
        self.user: str = self.configuration.get("User", "")
        self.settings: Mapping[str, str] = {}
        self._volumes: tuple[str, ...] = ()

    @contextlib.contextmanager
    def on(self, volume: Path, access: str = "rw") -> Iterator[None]:
        """Have a folder in the place of each volume, meanwhile."""
        before = self._volumes
        self._volumes = tuple(f"{volume}\t{place}\t{access}" for place in self.volumes())
        try:
            yield
        finally:
            self._volumes = before

    def volumes(self) -> list[str]:
        """Give the places of the volumes."""
        return list(self.configuration.get("Volumes") or ())

    def variable(self, name: str) -> str:
        """Give the value that the image itself sets; nothing where it does not."""
        variables: dict[str, str] = dict(line.split("=", 1) for line in self.configuration["Env"])
        return variables.get(name, "")

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """Give what runs `arguments` in the image, as its user, nothing of it writable but /tmp and the volumes."""
        variables = {**self.settings, **environment}
        wanted = [*self.configuration["Env"], *(f"{name}={value}" for name, value in variables.items())]
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
            ask(address)
            return time.monotonic() - began
        time.sleep(0.02)


def ask(address: str, body: dict[str, str] | None = None, **headers: str) -> str:
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


def health_of(address: str) -> dict[str, Any]:
    """Give what `/health` says."""
    told: dict[str, Any] = json.loads(ask(f"{address}/health"))
    return told


def new_token(address: str) -> str:
    """Begin a session."""
    token: str = json.loads(ask(f"{address}/api/v1/session", {}))["token"]
    return token


def chat(address: str, token: str, text: str = "from inside the image") -> None:
    """Send `text`, which the stand-in for n8n echoes, and read the stream to its end."""
    said = ask(
        f"{address}/api/v1/chat",
        {"message": f"/echo {text}"},
        Authorization=f"Bearer {token}",
        Accept="text/event-stream",
    )
    words = [json.loads(line[6:]).get("content", "") for line in said.splitlines() if line.startswith("data: ")]
    check(text in "".join(words) and "event: done" in said, f"it answered {said[-300:]!r}")


def figures(address: str) -> dict[str, Any]:
    """Give the totals that operators see."""
    told = ask(f"{address}/api/v1/admin/analytics", Authorization=f"Bearer {ADMIN_TOKEN}")
    totals: dict[str, Any] = json.loads(told)["totals"]
    return totals


def stop(process: subprocess.Popen[bytes]) -> float:
    """Stop it as an engine does; gives the seconds that it takes."""
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    status = process.wait(MOST_SECONDS_TO_STOP)
    check(status == 0, f"SIGTERM ends it with status {status}")
    return time.monotonic() - began
