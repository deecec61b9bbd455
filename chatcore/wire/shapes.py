"""What text a JSON value of n8n's stands for. Reasons name members and kinds of values, never the values."""

import contextlib
import re
from typing import Any

import msgspec

from chatcore.wire.characters import clean
from chatcore.wire.jsontext import NotJsonError, TooDeepError, dumps, loads

TEXT_MEMBERS = ("output", "text", "message", "response", "content", "answer")
WORKFLOW_STARTED = "Workflow was started"
STARTED_SENTENCE = "The assistant has begun to work, but it is not set up to answer here."
STARTED_REASON = (
    "the workflow only said that it was started: set the option 'Respond' of the Webhook or Chat Trigger node to "
    "'Using Respond to Webhook node', 'When Last Node Finishes' or 'Streaming'"
)

_MAX_NAMES = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}").fullmatch
_PRETTY_CHARS = 4096


class Shape(msgspec.Struct, frozen=True):
    """How a value was read: its texts, one for each segment, or None and the reason why there are none.

    `note` tells what was left out, `sentence` is for the visitor. A value that `withhold` is set for is not shown to
    anybody in any form.
    """

    texts: tuple[str, ...] | None
    reason: str = ""
    note: str = ""
    sentence: str | None = None
    withhold: bool = False


STARTED = Shape(None, STARTED_REASON, sentence=STARTED_SENTENCE, withhold=True)


def text_of(value: Any) -> str | None:
    """Give the text of an object or a string, None where it has none. Surrogates are as they came."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for name in TEXT_MEMBERS:
            text = value.get(name)
            if isinstance(text, dict) and text.get("type") == "text":
                text = text.get("text")
            if isinstance(text, str):
                return text
    return None


def only_started(value: Any) -> bool:
    """Tell whether this is n8n's word that a workflow runs, in place of its answer (n8n 2.41: `onReceived`)."""
    if isinstance(value, dict) and value.get("executionStarted"):
        return True
    return text_of(value) == WORKFLOW_STARTED


def read(value: Any) -> Shape:
    """Read a whole document, or an item that is one."""
    if only_started(value):
        return STARTED
    if isinstance(value, list):
        return _read_array(value)
    text = text_of(value)
    if text is None:
        return Shape(None, f"{describe(value)} without a text in {', '.join(TEXT_MEMBERS)}")
    return Shape((clean(text),))


def read_item(content: str) -> Shape | None:
    """Read an item that is a whole JSON object or array; None for every other text."""
    stripped = content.strip()
    if not stripped.startswith(("{", "[")) or not stripped.endswith(("}", "]")):
        return None
    try:
        return read(loads(stripped.encode()))
    except NotJsonError:
        return None


def _read_array(items: list[Any]) -> Shape:
    if any(only_started(item) for item in items):
        return STARTED
    found = [text_of(item) for item in items]
    texts = tuple(clean(text) for text in found if text is not None)
    if not texts:
        first = f", the first is {describe(items[0])}" if items else ""
        return Shape(None, f"an array of {len(items)} items without a text{first}")
    dropped = len(items) - len(texts)
    if not dropped:
        return Shape(texts)
    odd = items[found.index(None)]
    return Shape(texts, note=f"{dropped} of {len(items)} items of an array were dropped, the first is {describe(odd)}")


def describe(value: Any) -> str:
    """Say what kind of value it is, with the names of its members; odd names may be data, so they become `?`."""
    match value:
        case dict():
            names = [name if _NAME(name) else "?" for name in list(value)[:_MAX_NAMES]]
            more = ", …" if len(value) > _MAX_NAMES else ""
            return f"an object with the members {', '.join(names)}{more}" if names else "an empty object"
        case list():
            return "an array"
        case str():
            return "a string"
        case bool():
            return "a boolean"
        case None:
            return "null"
        case _:
            return "a number"


def fenced(value: Any, raw: bytes) -> str:
    """Give the value as a fenced JSON block of Markdown, for `SHOW_RAW_JSON`.

    No line of JSON can close the fence, since strings hold no raw line feeds. Only short documents are indented: a
    deep one would grow by its depth for every value.
    """
    text = raw.decode("utf-8", "replace").strip()
    if len(text) <= _PRETTY_CHARS:
        with contextlib.suppress(TooDeepError):
            text = dumps(value, indent=2)
    return f"```json\n{clean(text)}\n```"
