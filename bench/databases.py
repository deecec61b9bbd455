"""The PostgreSQL and the Redis that PostgreSQL mode is measured with: on the load's core, never on the server's."""

import functools
import os
import shutil
from pathlib import Path

from tests.support.databases import PostgresServer, RedisServer


def available() -> bool:
    """Tell whether both are installed here."""
    return shutil.which("redis-server") is not None and Path("/usr/lib/postgresql").is_dir()


@functools.cache
def servers(core: int) -> tuple[PostgresServer, RedisServer]:
    """Start both, once for all measurements; commits wait for the disk as they would anywhere."""
    started: tuple[PostgresServer, RedisServer] = (PostgresServer(durable=True), RedisServer())
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # what is started now stays there
    try:
        for server in started:
            server.start()
    finally:
        os.sched_setaffinity(0, before)
    return started


def settings_of(core: int) -> dict[str, str]:
    """Give the settings that lead to a database of its own."""
    postgres, redis = servers(core)
    database = postgres.new_database()
    return {"DATABASE_URL": database.url, "DATABASE_ADMIN_URL": database.admin_url, "REDIS_URL": redis.url}
