"""The chain of the audit log: what is changed, taken out or moved is told, with the first entry that shows it."""

import copy
from collections.abc import Callable, Sequence

import msgspec
import pytest

from chatcore.stores.postgres.chain import BEGINNING, Fault, Head, Key, Link, Walk, canonical, digest, keys, missed

OLD, NEW = keys("audit key of these tests, long enough", ["secret of tokens, long enough as well"])


def chain(count: int, key: Key = OLD) -> list[Link]:
    """Give a chain as the log holds one."""
    links: list[Link] = []
    for number in range(1, count + 1):
        link = Link(
            number=number,
            at_us=1_790_000_000_000_000 + number,
            actor="admin:anna",
            action="sessions_searched",
            session_id=None if number % 2 else "s_Jb2hQmZ4T8yVn0Rk1XwPLg",
            address="26dc346562f2711180815f530d20ed39",
            detail={"q": 'ü "x"', "limit": number, "bot": None},
            key_id=key.id,
        )
        before = links[-1].hash if links else BEGINNING
        links.append(msgspec.structs.replace(link, hash=digest(key.secret, before, link)))
    return links


def fault(links: Sequence[Link], known: Sequence[Key] = (OLD,)) -> Fault | None:
    walk = Walk(known)
    for link in links:
        if not walk.along((link,)):
            break
    return walk.fault


def test_a_chain_as_it_was_written_is_whole() -> None:
    links = chain(9)
    walk = Walk((OLD, NEW))
    assert walk.along([])
    assert walk.along(links[:4])
    assert walk.along(links[4:])
    assert walk.fault is None
    assert walk.head == Head(9, links[-1].hash)
    assert str(walk.head) == f"9:{links[-1].hash.hex()}"
    assert walk.keys_used == {OLD.id: 9}


CHANGES: dict[str, Callable[[Link], Link]] = {
    "at_us": lambda it: msgspec.structs.replace(it, at_us=it.at_us + 1),
    "actor": lambda it: msgspec.structs.replace(it, actor="admin:bert"),
    "action": lambda it: msgspec.structs.replace(it, action="audit_read"),
    "session_id": lambda it: msgspec.structs.replace(it, session_id="s_another"),
    "address": lambda it: msgspec.structs.replace(it, address=""),
    "detail": lambda it: msgspec.structs.replace(it, detail={**it.detail, "q": "y"}),
    "hash": lambda it: msgspec.structs.replace(it, hash=bytes(32)),
}


@pytest.mark.parametrize("member", CHANGES)
@pytest.mark.parametrize("place", [0, 3, 8])
def test_a_changed_entry_is_named(member: str, place: int) -> None:
    links = chain(9)
    links[place] = CHANGES[member](links[place])
    told = fault(links)
    assert told is not None
    assert told.number == place + 1
    assert "changed" in told.problem


def test_an_entry_that_was_taken_out_is_named() -> None:
    links = chain(9)
    assert fault(links[1:]) == Fault(1, "entry 1 is missing")
    assert fault(links[:4] + links[5:]) == Fault(5, "entry 5 is missing")
    assert fault(links[:4] + links[7:]) == Fault(5, "entry 5 to 7 is missing")


def test_entries_that_moved_up_to_hide_a_gap_are_named() -> None:
    links = chain(9)
    moved = [msgspec.structs.replace(link, number=link.number - 1) for link in links[5:]]
    told = fault(links[:4] + moved)
    assert told is not None
    assert told.number == 5


def test_an_entry_of_another_key_is_told_and_one_of_a_known_key_is_good() -> None:
    links = chain(5)
    assert fault(links, (NEW,)) == Fault(1, f"entry 1 was made with a key that is not known here ({OLD.id})")
    last = msgspec.structs.replace(links[-1], number=6, key_id=NEW.id)
    last = msgspec.structs.replace(last, hash=digest(NEW.secret, links[-1].hash, last))
    assert fault([*links, last], (OLD, NEW)) is None
    assert fault([*links, last], (OLD,)) == Fault(6, f"entry 6 was made with a key that is not known here ({NEW.id})")


def test_what_was_cut_off_at_the_end_is_told_by_who_noted_the_head() -> None:
    links = chain(9)
    head = Head(9, links[-1].hash)
    assert missed(head, links[-1].hash, head) is None
    assert missed(head, links[4].hash, Head(5, links[4].hash)) is None
    assert missed(Head(8, links[7].hash), None, head) == Fault(9, "entry 9 was cut off at the end")
    assert missed(Head(3, links[2].hash), None, head) == Fault(4, "entry 4 to 9 was cut off at the end")
    assert missed(Head(0, BEGINNING), None, head) == Fault(1, "entry 1 to 9 was cut off at the end")
    other = chain(9, NEW)
    assert missed(Head(9, other[-1].hash), other[-1].hash, head) is not None


def test_objects_are_hashed_whatever_the_order_of_their_members() -> None:
    link = chain(1)[0]
    turned = msgspec.structs.replace(link, detail=dict(reversed(list(link.detail.items()))))
    assert canonical(turned) == canonical(link)
    assert canonical(copy.copy(link)) == canonical(link)


def test_keys_are_those_of_settings_the_first_one_writes() -> None:
    audit, first, second = keys("a" * 32, ["b" * 32, "c" * 32])
    assert keys(None, ["b" * 32, "c" * 32]) == (first, second)
    assert len({audit.id, first.id, second.id}) == 3
    assert len(audit.id) == 8
    assert keys(None, []) == ()
