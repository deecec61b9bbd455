"""Tries PostgreSQL mode's image with a PostgreSQL and a Redis beside it, which come and go."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

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
from tests.support.databases import PostgresServer, RedisServer

SECRETS = {
    "AUDIT_KEY": "the-audit-log-of-this-run-alone-00001",
    "JWT_SECRET_KEY": "the-tokens-of-this-run-alone-00000001",
    "SESSION_SECRET_KEY": "the-sessions-of-this-run-alone-000001",
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "LOG_FORMAT": "json",
}
JOURNAL = {"spool.db"}


@contextlib.contextmanager
def databases(image: Image) -> Iterator[PostgresServer]:
    """Start both servers, with an empty database that the image's processes are told of, meanwhile."""
    with PostgresServer() as postgres, RedisServer(password="of-this-run") as redis:
        postgres.start()
        redis.start()
        database = postgres.new_database()
        addresses = {"DATABASE_URL": database.url, "DATABASE_ADMIN_URL": database.admin_url, "REDIS_URL": redis.url}
        image.settings = {**SECRETS, **addresses}
        yield postgres


def check_databases(image: Image, volume: Path) -> None:
    """What is said is in the figures, the export and the audit log; all commands are there; the journal is private."""
    text = f"said once, with {volume.name}"
    with image.serving("--demo") as (process, address, _):
        before = figures(address)["messages"]
        chat(address, new_token(address), text)
        check(figures(address)["messages"] == before + 1, "the message is not in the figures")
        check("<html" in ask(f"{address}/admin"), "the operators' page is missing")
        shown = json.loads(_done(image, "stats", "--json"))
        check(shown["totals"]["messages"] == before + 1, f"stats shows {shown}")
        exported = _done(image, "export")
        check(exported.count(f'"/echo {text}"') == 1, f"the export is {exported}")
        verified = _done(image, "verify-audit")
        check("are as they were written" in verified, f"verify-audit says {verified!r}")
        check("up to date" in _done(image, "migrate"), "a server that serves leaves something to migrate")
        looked = _done(image, "check", "--demo")
        for part in ("DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL", "journal"):
            check(f"ok {part}" in " ".join(looked.split()), f"check says {looked}")
        second = image.do("--demo", API_PORT="0")  # in another container, with the same volume
        check(second.returncode == EXIT_WRONG, f"a second server ends with status {second.returncode}")
        check("another server" in second.stderr, f"a second server is told {second.stderr!r}")
        stop(process)
    check_journal(image, volume)


def check_journal(image: Image, volume: Path) -> None:
    """After a stop the journal is the only file left, and private."""
    kept = {path.name for path in volume.iterdir()}
    check(kept == JOURNAL, f"after a stop there is {sorted(kept)}")
    for path in volume.iterdir():
        status = path.stat()
        check(f"{status.st_uid}:{status.st_gid}" == image.user, f"{path.name} belongs to {status.st_uid}")
        check(status.st_mode & 0o7777 == 0o600, f"{path.name} has the mode {status.st_mode:o}")


def check_outage(image: Image, volume: Path, postgres: PostgresServer) -> None:
    """A container that starts while PostgreSQL is away serves from its journal, and another one writes that back."""
    with image.serving("--demo") as (process, address, _):
        before = figures(address)["messages"]
        stop(process)
    postgres.stop()
    with image.serving("--demo") as (process, address, seconds):
        check(health_of(address)["status"] == "degraded", f"without PostgreSQL its health is {health_of(address)}")
        chat(address, new_token(address), "said into the journal")
        stopped = stop(process)
    check_journal(image, volume)
    say(f"without PostgreSQL it served after {seconds:.2f} s, stopped after {stopped:.2f} s")
    with new_volume(image) as empty, image.on(empty):
        check_refusal_without_database(image)
    postgres.start()
    with image.serving("--demo") as (process, address, _):
        until(lambda: health_of(address)["status"] == "ok", "it does not become well with PostgreSQL back")
        until(lambda: figures(address)["messages"] == before + 1, "the journal is not written back")
        stop(process)
    exported = _done(image, "export")
    check(exported.count('"/echo said into the journal"') == 1, f"after an outage the export is {exported}")


def check_refusal_without_database(image: Image) -> None:
    """Where no earlier run knew the database, one that does not answer ends it at once, with a sentence."""
    done = image.do("--demo", API_PORT="0")
    check(done.returncode == EXIT_WRONG, f"without a database it ends with {done.returncode}")
    check("cannot start" in done.stderr and "Traceback" not in done.stderr, f"it says {done.stderr!r}")
    check(SECRETS["JWT_SECRET_KEY"] not in done.stderr and "of the tests" not in done.stderr, "it tells a secret")
    say(" ".join(done.stderr.split()))


def check_workers(image: Image, volume: Path) -> None:
    """Several workers serve from the one container, each with a journal of its own, and stop together."""
    with image.serving("--demo", "--workers", "2") as (process, address, seconds):
        until((volume / "spool.2.db").exists, "the second worker has no journal")
        token = new_token(address)
        for number in range(8):  # a connection each, so both workers get some
            chat(address, token, f"number {number}")
        stopped = stop(process)
    (volume / "spool.2.db").unlink()
    check_journal(image, volume)
    say(f"two workers served after {seconds:.2f} s, stopped after {stopped:.2f} s")


def _done(image: Image, *arguments: str) -> str:
    """Run a command beside the server, as in its container; gives what it prints."""
    done = image.do(*arguments)
    check(done.returncode == 0, f"{arguments[0]}: {done.stdout}{done.stderr}")
    return done.stdout
