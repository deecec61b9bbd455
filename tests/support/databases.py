"""PostgreSQL and Redis for tests: servers of one's own, and what tests that leave a server alone share."""

import atexit
import functools
import os
from urllib.parse import urlsplit

from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Database, Postgres, PostgresServer
from tests.support.redis_servers import RedisDatabase, RedisServer, Sentinels

__all__ = [
    "Database",
    "PgBouncer",
    "Postgres",
    "PostgresServer",
    "RedisDatabase",
    "RedisServer",
    "Sentinels",
    "given_redis",
    "shared_postgres",
]


@functools.cache
def shared_postgres() -> Postgres:
    """Give the server in which tests make their databases: that of TEST_DATABASE_URL, or one of this process."""
    url = os.environ.get("TEST_DATABASE_URL")
    if url:
        return Postgres(url)
    server = PostgresServer()
    server.start()
    atexit.register(server.close)
    return server


def given_redis() -> RedisDatabase | None:
    """Give the database of TEST_REDIS_URL that belongs to this process of the tests; nothing where none is set.

    Processes that run side by side have a database each, counted from the one that the URL names.
    """
    url = os.environ.get("TEST_REDIS_URL")
    if not url:
        return None
    parts = urlsplit(url)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    number = int(parts.path.strip("/") or 0) + worker
    return RedisDatabase(parts._replace(path=f"/{number}").geturl())
