"""Runs what README and docs/containers.md say about containers with a Docker of its own, and looks at what came of it.

Called by `run` with a folder, in a network of its own: there are the images that stand for the official ones, Docker's
plugins and the packages that pip would fetch.
"""

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.images.image import ask, check, health_of, new_token, say, until
from tests.support import documented, sources
from tests.support.answers import answer_json, answer_stream
from tests.support.background import Gate
from tests.support.n8n import ScriptedN8n, published

ADDRESS = "http://127.0.0.1:8000"
GATEWAY = "172.17.0.1"  # of Docker's own network, told to the daemon below
N8N = "https://n8n.example.com/webhook/chat"
DATABASES = "localhost/chatcore-databases:test"
MOST_SECONDS_TO_START = 60
NO_CAPABILITY = "0000000000000000"


class Engine:
    """A Docker daemon whose images, containers and socket are in a folder; it is ended with what it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "engine"
        self.folder.mkdir()
        self.environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",  # Debian's Docker, whatever else this machine has
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(folder / "docker"),
            "DOCKER_BUILDKIT": "1",
        }

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        places = [f"--{name}={self.folder}/{name}" for name in ("data-root", "exec-root", "pidfile")]
        command = ["dockerd", *places, f"--host=unix://{self.folder}/docker.sock", f"--bip={GATEWAY}/16"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        began = time.monotonic()
        while subprocess.run(["docker", "version"], env=self.environment, capture_output=True, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() - began > MOST_SECONDS_TO_START:
                raise SystemExit(f"FAILED: no Docker:\n{(self.folder / 'log').read_text('utf-8')[-3000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove all containers, then end it."""
        for name in self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", name)
        self._process.terminate()
        self._process.wait(60)

    def docker(self, *arguments: str) -> str:
        """Run a command that the documents do not tell; gives what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        check(done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def inspect(self, container: str) -> dict[str, Any]:
        """Give all that Docker knows of a container."""
        told: dict[str, Any] = json.loads(self.docker("inspect", container))[0]
        return told


class Operator(documented.Place):
    """A folder as somebody has it who got chatcore and has Docker; builds take the packages from this machine."""

    def __init__(self, folder: Path, engine: Engine, pip: Path) -> None:
        super().__init__(folder, engine.environment, installed=False)
        self.environment["PATH"] = engine.environment["PATH"]
        for name in ("Dockerfile", ".dockerignore"):
            shutil.copy(sources.ROOT / name, folder)
        self._pip = pip

    def build(self, text: str, **instead: str) -> str:
        """Run commands that build, as somebody behind a package mirror runs them."""
        secret = f"docker build --secret id=pip.conf,src={self._pip}"
        return self.run(text, {"docker build": secret, **instead}, seconds=600)


@contextlib.contextmanager
def served(packages: Path) -> Iterator[int]:
    """Serve a folder to the builds; gives the port."""
    handler = functools.partial(_Quiet, directory=packages)
    with http.server.ThreadingHTTPServer((GATEWAY, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


@contextlib.contextmanager
def n8n() -> Iterator[tuple[ScriptedN8n, str]]:
    """Have a scripted n8n on this machine that containers reach; gives it and its address for them."""
    with ScriptedN8n() as scripted:
        scripted.answer(published)
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1", "ascii")
        to_it = ["-p", "tcp", "--dport", str(scripted.port), "-j", "DNAT", "--to-destination", "127.0.0.1"]
        subprocess.run(["iptables", "-t", "nat", "-A", "PREROUTING", "-d", GATEWAY, *to_it], check=True)
        yield scripted, f"http://host.docker.internal:{scripted.port}/webhook/chat"


def say_to(token: str, text: str) -> str:
    """Send a message; gives the stream, read to its end."""
    return ask(f"{ADDRESS}/api/v1/chat", {"message": text}, Authorization=f"Bearer {token}", Accept="text/event-stream")


def check_demo(place: Operator) -> None:
    """README's commands build the image and show the demo."""
    text = documented.commands("README.md", "In containers", 0)
    build, _, run = text.partition("\n")
    place.build(build)
    with place.running(run):
        until(lambda: _answers(f"{ADDRESS}/health/live"), "README's container does not serve")
        check("event: done" in say_to(new_token(ADDRESS), "/help"), "README's container does not chat")
    until(lambda: not _answers(f"{ADDRESS}/health/live"), "README's container outlives its command")
    say("README's container serves")


def check_hardened(engine: Engine, container: str) -> None:
    """What runs is as the page promises."""
    told = engine.inspect(container)
    host = told["HostConfig"]
    check(host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{container} is {host}")
    check(host["SecurityOpt"] == ["no-new-privileges:true"] and not host["Privileged"], f"{container} is {host}")
    check(host["Memory"] and host["PidsLimit"], f"{container} has no limits")
    secrets = [path.read_text("utf-8").strip() for path in (engine.folder.parent / "operator/secrets").iterdir()]
    values = {secret.rpartition(" ")[2].rpartition("@")[0].rpartition(":")[2] or secret for secret in secrets}
    check(not [value for value in values if value in json.dumps(told)], f"{container} shows a secret")
    status = Path(f"/proc/{told['State']['Pid']}/status").read_text("ascii")
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    check(found["Uid"].split()[0] in {"10001", "999"}, f"{container} runs as {found['Uid']}")
    check({found[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {NO_CAPABILITY}, f"{container} has capabilities")
    check(found["NoNewPrivs"] == "1", f"{container} may gain privileges")


def start(place: Operator, mode: str, webhook: str) -> None:
    """Run the page's first block for a mode."""
    text = documented.commands("docs/containers.md", "Start", 0).replace("stateless", mode)
    printed = place.build(text, **{N8N: webhook})
    check("FAIL" not in printed, f"check says {printed}")


def check_mode(place: Operator, engine: Engine, mode: str, scripted: ScriptedN8n, webhook: str) -> None:
    """The page's commands start a mode; it chats, sees the proxy's visitor, and stops with a reply in flight."""
    began = time.monotonic()
    start(place, mode, webhook)
    say(f"{mode}: built, checked and served after {time.monotonic() - began:.0f} s")
    services = {"postgres": ["chatcore-postgres", "postgres", "redis"]}.get(mode, [f"chatcore-{mode}"])
    for service in services:
        check_hardened(engine, f"chatcore-{service}-1")
    health = health_of(ADDRESS)
    check((health["status"], health["mode"]) == ("ok", mode), f"its health is {health}")
    token = new_token(ADDRESS)
    said = say_to(token, "said in a container")
    check("said in a container" in said and "event: done" in said, f"it answered {said}")
    key = (place.folder / "secrets/n8n_api_key").read_text("utf-8").strip()
    check(scripted.requests[-1].headers["x-n8n-api-key"] == key, "n8n got another key")
    check_proxy(engine, f"chatcore-chatcore-{mode}-1")


def check_proxy(engine: Engine, container: str) -> None:
    """Who comes by the network's gateway is believed, as the page says of a proxy on this machine."""
    trusted = engine.inspect(container)["NetworkSettings"]["Networks"]["chatcore_web"]["Gateway"]
    check(trusted == "172.30.83.1", f"the gateway is {trusted}")
    ask(f"{ADDRESS}/api/v1/session", {}, **{"X-Forwarded-For": "198.51.100.7"})
    check(health_of(ADDRESS)["checks"]["service"]["status"] == "ok", f"its health is {health_of(ADDRESS)}")


def check_stop(place: Operator, scripted: ScriptedN8n) -> None:
    """`down` waits for a reply in flight, which reaches its reader whole."""
    gate, asked = Gate(), len(scripted.requests)
    scripted.next(answer_stream(["the beginning, ", "the end"], gap=gate))
    told: list[str] = []
    token = new_token(ADDRESS)
    reader = threading.Thread(target=lambda: told.append(say_to(token, "slowly")))
    reader.start()
    until(lambda: len(scripted.requests) > asked, "n8n was not asked")
    down = threading.Thread(target=place.run, args=("docker compose down",), kwargs={"seconds": 120})
    began = time.monotonic()
    down.start()
    until(lambda: not _answers(f"{ADDRESS}/health/ready"), "it does not notice that it is being stopped")
    gate.open()
    reader.join(60)
    check(told and "the end" in told[0] and "event: done" in told[0], f"the reply in flight was {told}")
    down.join(120)
    say(f"stopped with a reply in flight after {time.monotonic() - began:.1f} s")


def check_secrets(place: Operator) -> None:
    """Secrets are made once and only their owner reaches them; one that cannot be read is told."""
    folder = place.folder / "secrets"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "metrics_token").unlink()
    place.run("umask 077; deploy/compose/make-secrets")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    check(before.keys() == after.keys(), f"made are {sorted(after)}")
    check(
        {name for name in before if before[name] != after[name]} == {"metrics_token"}, "a secret that was there changed"
    )
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    check((folder.stat().st_mode & 0o777, modes) == (0o700, {0o644}), f"the modes are {modes}")
    (folder / "metrics_token").chmod(0o600)
    told = place.run("docker compose run --rm chatcore-stateless check", status=2)
    check(
        "METRICS_TOKEN_FILE" in told and "Permission denied" in told, f"of a secret that cannot be read it says {told}"
    )
    (folder / "metrics_token").chmod(0o644)


def check_sqlite(place: Operator) -> None:
    """The page's commands of every day, in SQLite mode; what was kept outlives a new container."""
    printed = place.run(documented.commands("docs/containers.md", "Every day", 0))
    check("complete and sound" in printed, f"they print {printed}")
    check((place.folder / "backup.db").read_bytes().startswith(b"SQLite format 3"), "the backup is none")
    token = new_token(ADDRESS)
    say_to(token, "before the new version")
    place.run("docker compose down")
    place.build(documented.commands("docs/containers.md", "Every day", 2))
    said = say_to(token, "after it")
    check("event: done" in said, f"with the token of before it answers {said}")
    totals = json.loads(place.run("docker compose exec -T chatcore-sqlite python main_sqlite.py stats --json"))[
        "totals"
    ]
    check((totals["messages"], totals["sessions"]) == (3, 2), f"the figures are {totals}")


def check_postgres(place: Operator, engine: Engine) -> None:
    """The page's commands of every day, in PostgreSQL mode; who serves owns nothing; Redis wants its password."""
    printed = place.run(documented.commands("docs/containers.md", "Every day", 1))
    check("are as they were written" in printed, f"they print {printed}")
    check("said in a container" in (place.folder / "all.jsonl").read_text("utf-8"), "the export lacks the message")
    check((place.folder / "chatcore.dump").read_bytes().startswith(b"PGDMP"), "the dump is none")
    owned = "SELECT tableowner FROM pg_tables WHERE schemaname = 'chatcore' GROUP BY 1"
    ask_postgres = "docker compose exec -T postgres psql -U postgres -d chatcore -Atc"
    check(place.run(f'{ask_postgres} "{owned}"') == "chatcore_owner\n", "the tables belong to somebody else")
    told = place.run("docker compose exec -T redis redis-cli config get maxmemory-policy")
    check("NOAUTH" in told, f"without its password Redis says {told}")
    password = (place.folder / "secrets/redis.conf").read_text("utf-8").split()[1]
    asked = f"docker compose exec -T -e REDISCLI_AUTH={password} redis redis-cli config get maxmemory-policy"
    check("noeviction" in place.run(asked), "Redis may drop what instances share")
    network = json.loads(engine.docker("network", "inspect", "chatcore_data"))[0]
    check(network["Internal"], f"the network of the databases is {network}")


def check_alone(place: Operator, engine: Engine, webhook: str) -> None:
    """The page's commands without Compose start a container, on a new volume and on a folder."""
    (place.folder / "chatcore.env").write_text(
        f"N8N_WEBHOOK_URL={webhook}\nALLOWED_ORIGINS=https://a.example\n", "utf-8"
    )
    folder = place.folder / "given"
    place.run(documented.commands("docs/containers.md", "Without Compose", 1), {"/srv/chatcore": str(folder)})
    command = documented.commands("docs/containers.md", "Without Compose", 0)
    for volume in ("chatcore-data", str(folder)):
        place.run(command, {"chatcore-data": volume})
        until(lambda: _answers(f"{ADDRESS}/health/live"), "it does not serve")
        check_hardened_alone(engine)
        check("event: done" in say_to(new_token(ADDRESS), "without Compose"), "it does not chat")
        engine.docker("stop", "chatcore")
        ended = engine.inspect("chatcore")["State"]
        check(ended["ExitCode"] == 0, f"it ended with {ended}")
        engine.docker("rm", "chatcore")
    check((folder / "chat_sessions.db").exists(), "nothing was kept in the folder")


def check_hardened_alone(engine: Engine) -> None:
    """The command's options do what they are for."""
    told = engine.inspect("chatcore")
    check(told["HostConfig"]["ReadonlyRootfs"] and told["HostConfig"]["CapDrop"] == ["ALL"], "it is not hardened")
    check(told["Config"]["StopTimeout"] == 40, "it is killed too early")


def check_traces(place: Operator, scripted: ScriptedN8n, webhook: str) -> None:
    """The page's command builds an image that sends traces; the others say what they lack."""
    collector = webhook.rpartition("/webhook")[0]
    scripted.answer(lambda request: answer_json({}) if request.target == "/v1/traces" else published(request))
    told = {
        "N8N_WEBHOOK_URL": webhook,
        "ALLOWED_ORIGINS": "https://a.example",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
    }
    run = " ".join(["docker run --rm", *(f"--env {name}={value}" for name, value in told.items())])
    said = place.run(f"{run} chatcore:stateless check", status=2)
    check("--build-arg TRACES=yes" in said, f"without the package it says {said}")
    place.build(documented.commands("docs/tracing.md", "Set it up", 2))
    said = place.run(f"{run} chatcore:stateless check")
    check(f"traces: {collector}/v1/traces takes them." in said, f"with the package it says {said}")


def _answers(address: str) -> bool:
    try:
        ask(address)
    except OSError:
        return False
    return True


def load(engine: Engine, folder: Path) -> None:
    """Give the engine the images that stand for the official ones, under the names of compose.yaml."""
    for name in ("base-image.tar", "databases.tar"):
        engine.docker("load", "--quiet", "--input", str(folder / name))
    for name in re.findall(r"(?m)^    image: (docker\.io/\S+)$", (sources.ROOT / "compose.yaml").read_text("utf-8")):
        engine.docker("tag", DATABASES, name)


def main(folder: Path) -> None:
    """Check everything; ends with a sentence at the first fault."""
    os.umask(0o022)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Engine(folder) as engine, served(folder / "packages") as port, n8n() as (scripted, webhook):
        load(engine, folder)
        pip = folder / "pip-of-engine.conf"
        index = f"http://{GATEWAY}:{port}/"
        pip.write_text(f"[global]\nno-index = true\nfind-links = {index}\ntrusted-host = {GATEWAY}\n", "ascii")
        (folder / "operator").mkdir()
        place = Operator(folder / "operator", engine, pip)
        check_demo(place)
        place.run(
            documented.commands("docs/containers.md", "Behind a package mirror", 0),
            {"/etc/pip.conf": str(pip)},
            seconds=600,
        )
        for mode in ("stateless", "sqlite", "postgres"):
            check_mode(place, engine, mode, scripted, webhook)
            if mode == "stateless":
                check_secrets(place)
            elif mode == "sqlite":
                check_sqlite(place)
            else:
                check_postgres(place, engine)
            check_stop(place, scripted)
        check_alone(place, engine, webhook.replace("host.docker.internal", GATEWAY))
        check_traces(place, scripted, webhook.replace("host.docker.internal", GATEWAY))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
