"""One transaction of entries: they become a document, the database's function `chatcore.record` does the rest."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chatcore.happenings import Crashed, Observe
from chatcore.model import TurnKey
from chatcore.stores.postgres.database import READ_ONLY, Database, OutageError
from chatcore.stores.postgres.entries import Closed, Entry, Opened, Rated, Released, key_of
from chatcore.stores.postgres.journal import Numbered

AT_ONCE = 400
_AT_ONCE_CHARS = 2_000_000
RECORD = text(
    "SELECT chatcore.record(CAST(:run AS uuid), :first, :last, CAST(:shard AS smallint), CAST(:entries AS jsonb))"
)
_PROBE = text("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'")
_TRIES = 4
_SECONDS = 5.0
_KINDS: tuple[type, ...] = (Opened, Closed, Rated, Released)
_GROUPS = ("opened", "closed", "rated", "released")
_RANKS = {kind: rank for rank, kind in enumerate(_KINDS)}
# What a single entry can be wrong about (PostgreSQL, appendix A): its values, what they would make of the rows, their
# size. Anything else is wrong with the database, a schema that somebody dropped say, and no reason to lose entries.
_ENTRY_FAULTS = ("21", "22", "23", "54")


class Recorded(msgspec.Struct, frozen=True):
    """What came of a transaction: entries that cannot be written (a bug of ours), and turns that others had opened."""

    lost: tuple[Numbered, ...] = ()
    taken: frozenset[TurnKey] = frozenset()

    def and_then(self, other: "Recorded") -> "Recorded":
        """Give what came of both."""
        return Recorded((*self.lost, *other.lost), self.taken | other.taken)


class Recorder:
    """Writes entries of a run. `run` names this process's own."""

    def __init__(self, database: Database, run: str, shard: int, observe: Observe) -> None:
        """`shard`: which rows of the figures are added to, so that instances do not wait for each other."""
        self.run = run
        self._database = database
        self._shard = shard
        self._observe = observe
        self._encoder = msgspec.json.Encoder()

    async def record(self, run: str, entries: Sequence[Numbered]) -> Recorded:
        """Write entries once, whether or not some were written before. Raises `OutageError`."""
        recorded = Recorded()
        for some in _in_order(entries):
            recorded = recorded.and_then(await self._record(run, some))
        return recorded

    async def probe(self) -> None:
        """Ask whether the database takes writes. Raises `OutageError`."""
        rows: Sequence[Any] = await self._database.rows(_PROBE, seconds=_SECONDS)
        if any(rows[0]):
            raise OutageError(READ_ONLY)

    async def _record(self, run: str, entries: Sequence[Numbered]) -> Recorded:
        rest = list(entries)
        tries = 0
        while rest:
            tries += 1
            try:
                answer = await self._call(run, rest)
            except OutageError as error:
                if error.again and tries < _TRIES:
                    continue
                raise
            except Exception as error:  # noqa: BLE001 - the database refuses what one of the entries says
                if len(rest) > 1:
                    half = len(rest) // 2
                    first = await self._record(run, rest[:half])
                    return first.and_then(await self._record(run, rest[half:]))
                self._observe(Crashed("store", error))
                return Recorded(tuple(rest))
            if answer["written"]:
                return Recorded((), frozenset((session, message) for session, message in answer["taken"]))
            rest = [numbered for numbered in rest if numbered[0] > answer["position"]]
        return Recorded()

    async def _call(self, run: str, entries: Sequence[Numbered]) -> dict[str, Any]:
        groups: tuple[list[Entry], ...] = ([], [], [], [])
        for _, entry in entries:
            groups[_RANKS[type(entry)]].append(entry)
        told = {
            "run": run,
            "first": entries[0][0],
            "last": entries[-1][0],
            "shard": self._shard,
            "entries": self._encoder.encode(dict(zip(_GROUPS, groups, strict=True))).decode(),
        }
        try:
            rows = await self._database.rows(RECORD, told, seconds=_SECONDS)
        except DBAPIError as error:
            cause = error.orig
            if not isinstance(cause, psycopg.Error) or (cause.sqlstate or "")[:2] in _ENTRY_FAULTS:
                raise
            detail = f"{cause.sqlstate}: {' '.join(str(cause).split())[:300]}"
            raise OutageError("PostgreSQL cannot write as this version of chatcore needs it", detail) from error
        answer: dict[str, Any] = rows[0][0]
        return answer


def _in_order(entries: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    """Give parts as the function needs them: no turn has two entries of a kind, or one behind that of a later kind.

    Nearly always there is one part. A message that was released and runs again makes two.
    """
    begin = 0
    ranks: dict[TurnKey, int] = {}
    for place, (_, entry) in enumerate(entries):
        key, rank = key_of(entry), _RANKS[type(entry)]
        if ranks.get(key, -1) >= rank:
            yield entries[begin:place]
            begin = place
            ranks.clear()
        ranks[key] = rank
    if begin < len(entries):
        yield entries[begin:]


def first_batch(queue: list[Numbered]) -> tuple[list[Numbered], list[Numbered]]:
    """Give what one transaction writes of a queue, and the rest: not too much at once."""
    chars = 0
    for number, (_, entry) in enumerate(queue):
        chars += len(entry.text) if isinstance(entry, Opened | Closed) else 0
        if number and (number >= AT_ONCE or chars > _AT_ONCE_CHARS):
            return queue[:number], queue[number:]
    return queue, []
