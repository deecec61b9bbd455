"""The reply log of PostgreSQL mode keeps the contract of all reply logs, over a real PostgreSQL and a real Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatcore.settings import ReplySettings
from tests.contracts.replies import KEEP_SECONDS, REPLY_MAX_BYTES, ReplyLogContract
from tests.support.clock import ManualClock
from tests.support.databases import Database, RedisDatabase
from tests.support.replies_bench import Instance, instances

SETTINGS = ReplySettings(reply_keep_seconds=KEEP_SECONDS, reply_max_bytes=REPLY_MAX_BYTES)


class _Bench:
    """One instance whose clock is moved by hand."""

    def __init__(self, instance: Instance, clock: ManualClock) -> None:
        self.log = instance.log
        self.clock = clock


@pytest.fixture(name="bench")
async def _bench(database_of_module: Database, redis_server: RedisDatabase, tmp_path: Path) -> AsyncIterator[_Bench]:
    redis_server.flush()
    clock = ManualClock()
    async with instances(1, database_of_module, redis_server.url, tmp_path, SETTINGS, clock) as (one,):
        yield _Bench(one, clock)


class TestPostgresReplies(ReplyLogContract):
    """The port's promises."""
