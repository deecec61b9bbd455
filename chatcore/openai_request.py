"""Body of a chat completion -> a checked message with its history; every fault with its field and reason.

Members and roles as OpenAI's API has them (chat completions, version 1). What a workflow cannot do anything with
(`temperature`, `tools` …) is ignored, as servers of this API do. The body may have megabytes, since programs send whole
conversations: msgspec reads it, which is ten times faster than the strict reader and builds nothing of what is ignored.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from chatcore import fields
from chatcore.errors import INVALID_JSON, Refusal
from chatcore.fields import MAX_HISTORY_BYTES, MAX_HISTORY_ENTRIES, Faults
from chatcore.model import HistoryEntry

MAX_MESSAGES = 10_000
MAX_STOPS = 4
MAX_STOP_CHARS = 256
MAX_NAME_CHARS = 512

_TOKEN_BYTES = 4
_NO_FILES = "is not text; files, images and audio are not accepted here"


class CompletionRequest(msgspec.Struct, frozen=True):
    """One message of a program. `history` is what stands before it, `stop` what ends the reply, `user` as sent.

    `prompt_tokens` is an estimate, see `estimate_tokens`.
    """

    model: str
    message: str
    history: list[HistoryEntry] | None
    stream: bool
    include_usage: bool
    stop: tuple[str, ...]
    user: str | None
    prompt_tokens: int


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Completion(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    user: str | None = None


_decode = msgspec.json.Decoder(_Completion).decode
# msgspec 0.21: "Expected `str`, got `int` - at `$.messages[0].role`", "Object missing required field `model`",
# "Invalid enum value 'x'", which repeats what was sent.
_EXPECTED = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
_MISSING = re.compile(r"missing required field `(\w+)`")
_PLACE = re.compile(r" - at `\$\.?([\w.\[\]]*)`$")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a fraction",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


def parse_completion(body: bytes, max_message_chars: int) -> CompletionRequest:
    """Read the body of `POST /v1/chat/completions`. Raises `Refusal` `invalid_json` or `invalid_request`."""
    asked = _read(body)
    faults = Faults()
    if fields.is_text("model", asked.model, MAX_NAME_CHARS, faults) and not asked.model:
        faults.add("model", "must not be empty")
    if asked.n not in (None, 1):
        faults.add("n", "must be 1: a workflow gives one answer")
    if asked.user is not None:
        fields.is_text("user", asked.user, MAX_NAME_CHARS, faults)
    stop = _stop(asked.stop, faults)
    if len(asked.messages) > MAX_MESSAGES:
        faults.add("messages", f"must have at most {MAX_MESSAGES} entries")
        faults.refuse()
    texts = [_text(f"messages[{index}].content", message, faults) for index, message in enumerate(asked.messages)]
    last = _last(asked.messages, faults)
    if faults:
        faults.refuse()
    message = texts[last]
    place = f"messages[{last}].content"
    if fields.is_text(place, message, max_message_chars, faults) and not message.strip():
        faults.add(place, "must not be empty or only white space")
    history = _history(asked.messages, texts, last, faults)
    if faults:
        faults.refuse()
    return CompletionRequest(
        model=asked.model,
        message=message,
        history=history or None,
        stream=bool(asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        stop=stop,
        user=asked.user or None,
        prompt_tokens=estimate_tokens([message, *(entry.content for entry in history)]),
    )


def estimate_tokens(texts: Iterable[str]) -> int:
    """Give about how many tokens texts have, at four bytes of UTF-8 each: the model that will count is not known."""
    return -(-sum(_size(text) for text in texts) // _TOKEN_BYTES)


def _read(body: bytes) -> _Completion:
    try:
        return _decode(body)
    except msgspec.ValidationError as fault:
        faults = Faults()
        faults.add(*_explained(str(fault)))
        faults.refuse()
    except msgspec.DecodeError:
        said = "The request body is not valid JSON, or has half a character in it, a lone surrogate."
        raise Refusal(INVALID_JSON, said if _SURROGATE.search(body) else None) from None
    except UnicodeDecodeError:
        raise Refusal(INVALID_JSON, "The request body is not valid JSON: not UTF-8.") from None
    except RecursionError:
        faults = Faults()
        faults.add("body", "is nested too deeply")
        faults.refuse()


def _explained(said: str) -> tuple[str, str]:
    """Give the place and the reason in our words; nothing of what was sent is repeated."""
    found = _PLACE.search(said)
    place = found[1] if found is not None else ""
    missing = _MISSING.search(said)
    if missing is not None:
        return f"{place}.{missing[1]}".strip("."), "is required"
    types = _EXPECTED.search(said)
    if types is not None:
        wanted = " or ".join(_WORDS[word] for word in types[1].split(" | ") if word in _WORDS)
        return place or "body", f"must be {wanted}, not {_WORDS.get(types[2], 'something else')}"
    if place.endswith("role"):
        return place, "must be one of system, developer, user, assistant, tool, function"
    return place or "body", "is not as it must be"


def _stop(asked: str | list[str] | None, faults: Faults) -> tuple[str, ...]:
    stop = (asked,) if isinstance(asked, str) else tuple(asked or ())
    if len(stop) > MAX_STOPS:
        faults.add("stop", f"must have at most {MAX_STOPS} entries")
        return ()
    for sequence in stop:
        if fields.is_text("stop", sequence, MAX_STOP_CHARS, faults) and not sequence:
            faults.add("stop", "must not be empty")
    return stop


def _text(place: str, message: _Message, faults: Faults) -> str:
    """Give a message's text; what tools said is not looked at."""
    content = message.content
    if isinstance(content, str):
        return content
    if content is None or message.role in {"tool", "function"}:
        return ""
    texts = []
    for index, part in enumerate(content):
        if part.type == "text":
            if part.text is None:
                faults.add(f"{place}[{index}].text", "is required")
            else:
                texts.append(part.text)
        elif part.type != "refusal":  # what a model said in the place of an answer
            faults.add(f"{place}[{index}]", _NO_FILES)
    return "".join(texts)


def _last(messages: Sequence[_Message], faults: Faults) -> int:
    """Find the last message of a user: what is asked now."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return index
    faults.add("messages", "must have a message of the role user")
    return 0


def _history(messages: Sequence[_Message], texts: Sequence[str], last: int, faults: Faults) -> list[HistoryEntry]:
    """Give the system's messages, and as many of those before the last user's as fit, the latest of them."""
    kept: dict[int, HistoryEntry] = {}
    size = 0
    for index, message in enumerate(messages):
        if message.role in {"system", "developer"} and texts[index]:
            fields.is_text(f"messages[{index}].content", texts[index], MAX_HISTORY_BYTES, faults)
            kept[index] = HistoryEntry("system", texts[index])
            size += _size(texts[index])
            if len(kept) > MAX_HISTORY_ENTRIES or size > MAX_HISTORY_BYTES:
                most = f"{MAX_HISTORY_BYTES} bytes and {MAX_HISTORY_ENTRIES} entries"
                faults.add("messages", f"must have at most {most} of the role system")
                return []
    for index in range(last - 1, -1, -1):
        role = messages[index].role
        if (role != "user" and role != "assistant") or not texts[index]:  # noqa: PLR1714 - so mypy knows what is left
            continue
        size += _size(texts[index])
        if len(kept) >= MAX_HISTORY_ENTRIES or size > MAX_HISTORY_BYTES:
            break
        fields.is_text(f"messages[{index}].content", texts[index], MAX_HISTORY_BYTES, faults)
        kept[index] = HistoryEntry(role, texts[index])
    return [kept[index] for index in sorted(kept)]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
