"""The clean-up: exactly what is too old goes, a little at a time, and the disk gets its space back."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.analytics import DAY_SECONDS
from chatcore.settings import SqliteSettings
from chatcore.stores.sqlite import cleanup, file
from chatcore.stores.sqlite.cleanup import Limits, Sweep
from tests.support import sources

DAY = 20_700 * DAY_SECONDS
NOW = DAY + 40_000.5
LIMITS = Limits(now=NOW, sessions=NOW - 7.0, turns=NOW - 5.0, erased=NOW - 9.0, figures=NOW - 3 * DAY_SECONDS)
FIGURES_FROM = DAY - 3 * DAY_SECONDS
TIMES = {
    "sessions": ("seen_at", LIMITS.sessions),
    "turns": ("accepted_at", LIMITS.turns),
    "limits": ("until", LIMITS.now),
    "erased": ("erased_at", LIMITS.erased),
    "hours": ("hour", FIGURES_FROM),
    "reply_times": ("hour", FIGURES_FROM),
    "origins": ("day", FIGURES_FROM),
    "pages": ("day", FIGURES_FROM),
}
AGES = st.lists(st.sampled_from([-1000.0, -1.0, -0.001, 0.0, 0.001, 1.0, 1000.0]), max_size=25)
OLD_DAYS = st.lists(st.integers(-4, 4), max_size=12)


@contextmanager
def new_file() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in sorted((sources.ROOT / "chatcore/stores/sqlite/migrations").glob("*.sql")):
            connection.executescript(migration.read_text("utf-8"))
        yield connection


def fill(
    connection: sqlite3.Connection,
    sessions: Sequence[float] = (),
    turns: Sequence[float] = (),
    limits: Sequence[float] = (),
    erased: Sequence[float] = (),
    days: Sequence[int] = (),
) -> None:
    """Put rows in, so much younger than what goes; figures so many days."""
    number = count()
    many = connection.executemany
    many(
        "INSERT INTO sessions (id, bot, created_at, seen_at, origin, page, client) VALUES (?, 'b', 0, ?, '', '', '')",
        [(f"s{next(number) * 7919 % 1000}-{next(number)}", LIMITS.sessions + age) for age in sessions],
    )
    many(
        "INSERT INTO turns VALUES (?, ?, 'b', x'00', ?, 0, NULL)",
        [(f"s{at % 3}", f"m{at}", LIMITS.turns + age) for at, age in enumerate(turns)],
    )
    many("INSERT INTO limits VALUES (?, ?, NULL)", [(b"k%d" % next(number), LIMITS.now + age) for age in limits])
    many("INSERT INTO erased VALUES (?, ?)", [(f"e{next(number)}", LIMITS.erased + age) for age in erased])
    for table, more in (("hours", "1, 1, 1, 1, 1, 1"), ("reply_times", "7, 1"), ("origins", "'n', 1, 1")):
        many(
            f"INSERT INTO {table} VALUES (?, ?, {more})",  # noqa: S608 - texts of ours
            [(FIGURES_FROM + day * DAY_SECONDS, f"b{next(number)}") for day in days],
        )
    connection.execute("INSERT INTO pages SELECT * FROM origins")


def kept(connection: sqlite3.Connection) -> dict[str, list[float]]:
    """Give the times of all rows."""
    return {
        table: sorted(at for (at,) in connection.execute(f"SELECT {time} FROM {table}"))  # noqa: S608 - names of ours
        for table, (time, _) in TIMES.items()
    }


@given(
    sessions=AGES, turns=AGES, limits=AGES, erased=AGES, days=OLD_DAYS, at_once=st.integers(1, 6), failing=st.booleans()
)
def test_exactly_what_is_old_goes_a_little_at_a_time(
    sessions: list[float],
    turns: list[float],
    limits: list[float],
    erased: list[float],
    days: list[int],
    at_once: int,
    *,
    failing: bool,
) -> None:
    with new_file() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "ROWS_AT_ONCE", at_once)
        fill(connection, sessions, turns, limits, erased, days)
        before = kept(connection)
        sweep = Sweep(LIMITS)
        for steps in count():
            assert steps < 500
            changes = connection.total_changes
            if failing and steps % 2:
                connection.execute("PRAGMA query_only = ON")
                with pytest.raises(sqlite3.OperationalError):
                    raise_unless_done(sweep, connection)
                connection.execute("PRAGMA query_only = OFF")
            goes_on = sweep.step(connection)
            assert not connection.in_transaction
            assert connection.total_changes - changes <= at_once
            if not goes_on:
                break
        after = kept(connection)
        assert after == {table: [at for at in times if at >= TIMES[table][1]] for table, times in before.items()}
        gone = {table: len(before[table]) - len(after[table]) for table in TIMES}
        assert sweep.cleaned.sessions == gone.pop("sessions")
        assert sweep.cleaned.rows == sum(gone.values())


def raise_unless_done(sweep: Sweep, connection: sqlite3.Connection) -> None:
    """Take a step that cannot write; where nothing is left to write, say so too."""
    sweep.step(connection)
    raise sqlite3.OperationalError("there was nothing to write")


def test_rows_that_come_meanwhile_are_left_alone() -> None:
    with new_file() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "ROWS_AT_ONCE", 3)
        fill(connection, sessions=[-1.0] * 30)
        sweep, number = Sweep(LIMITS), 0
        while sweep.step(connection):
            connection.execute(
                "INSERT INTO sessions (id, bot, created_at, seen_at, origin, page, client) "
                "VALUES (?, 'b', 0, ?, '', '', '')",
                (f"new {number}", NOW),
            )
            number += 1
            assert number < 20, "a walk ends, however many rows come while it walks"
        assert set(kept(connection)["sessions"]) == {NOW}


def test_what_is_kept_how_long_is_as_set() -> None:
    settings = SqliteSettings(
        path=Path("x.db"), session_retention_days=2.0, analytics_retention_days=30.0, erased_days=91.0
    )
    limits = cleanup.limits_of(settings, NOW)
    assert limits.sessions == NOW - 2 * DAY_SECONDS
    assert limits.turns == NOW - DAY_SECONDS
    assert limits.erased == NOW - 91 * DAY_SECONDS
    assert limits.figures == NOW - 30 * DAY_SECONDS
    assert limits.now == NOW


def test_space_is_given_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    file.prepare(path)
    with closing(file.connect(path)) as connection:
        connection.execute("BEGIN")
        fill(connection, sessions=[-1.0] * 15_000 + [1.0] * 100, turns=[-1.0] * 5_000)
        connection.execute("COMMIT")
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        large = path.stat().st_size
        sweep = Sweep(LIMITS)
        most = 0
        changes = connection.total_changes
        while sweep.step(connection):
            most, changes = max(most, connection.total_changes - changes), connection.total_changes
        assert most == cleanup.ROWS_AT_ONCE
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
        cleanup.finished(connection, NOW)
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (100,)
        assert connection.execute("SELECT value FROM meta WHERE name = 'cleaned_at'").fetchone() == (NOW,)
    assert path.stat().st_size < large / 5
    assert sweep.cleaned.bytes == pytest.approx(large - path.stat().st_size, abs=20 * 2048)
    assert str(sweep.cleaned).startswith("15000 sessions and 5000 other rows deleted")


def test_a_clean_up_of_an_empty_file_ends_at_once() -> None:
    with new_file() as connection:
        assert not Sweep(LIMITS).step(connection)


def test_the_last_rows_of_a_table_go_in_one_step() -> None:
    with new_file() as connection:
        fill(connection, turns=[-1.0] * 30)
        sweep = Sweep(LIMITS)
        assert sweep.step(connection)
        assert sweep.cleaned.rows == 30
