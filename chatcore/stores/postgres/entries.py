"""What the writer is told of turns, as values: they become one JSON document for the database, or lines of the journal.

Member names are short since they travel with every message; `migrations/0001_record.sql` reads them.
"""

import msgspec

from chatcore.model import TurnKey


class Opened(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="o", tag_field="@"):
    """A message was accepted. `at_us`: epoch microseconds; `digest`: a keyed hash of the text, in hex."""

    session_id: str = msgspec.field(name="s")
    message_id: str = msgspec.field(name="m")
    bot: str = msgspec.field(name="b")
    digest: str = msgspec.field(name="d")
    at_us: int = msgspec.field(name="t")
    text: str = msgspec.field(name="x")
    origin: str = msgspec.field(name="o")
    page: str = msgspec.field(name="p")
    client: str = msgspec.field(name="c")
    user: str | None = msgspec.field(name="u", default=None)


class Closed(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="c", tag_field="@"):
    """Its reply ended at `at_us` and says `text`. `bucket` counts its time (`analytics.bucket_of`)."""

    session_id: str = msgspec.field(name="s")
    message_id: str = msgspec.field(name="m")
    finish_reason: str = msgspec.field(name="f")
    error_code: str | None = msgspec.field(name="e")
    duration_ms: int = msgspec.field(name="ms")
    bucket: int = msgspec.field(name="k")
    at_us: int = msgspec.field(name="t")
    text: str = msgspec.field(name="x")


class Rated(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="r", tag_field="@"):
    """A visitor rated a reply; the last rating counts."""

    session_id: str = msgspec.field(name="s")
    message_id: str = msgspec.field(name="m")
    rating: str = msgspec.field(name="r")
    comment: str | None = msgspec.field(name="c", default=None)


class Released(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="f", tag_field="@"):
    """n8n received nothing of a message, so its id may run again."""

    session_id: str = msgspec.field(name="s")
    message_id: str = msgspec.field(name="m")


Entry = Opened | Closed | Rated | Released


def key_of(entry: Entry) -> TurnKey:
    """Give what names the turn of an entry."""
    return (entry.session_id, entry.message_id)
