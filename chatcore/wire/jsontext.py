"""JSON as n8n and hand-made webhooks write it: lone surrogates, raw control characters and bad UTF-8 are read too."""

import json
from typing import Any, NoReturn

import msgspec


class NotJsonError(ValueError):
    """Not a JSON value."""


class TooDeepError(NotJsonError):
    """Perhaps JSON, but with more levels than an interpreter has."""


def loads(raw: bytes) -> Any:
    """Decode one JSON value with white space around it; its strings may hold lone surrogates.

    Raises `NotJsonError` for everything that cannot be read.
    """
    try:
        return _DECODE(raw)
    except (msgspec.MsgspecError, ValueError):
        pass  # msgspec refuses lone surrogates and bad UTF-8 even where the rest is fine
    except RecursionError:
        raise TooDeepError from None
    try:
        return _PATIENT.decode(raw.decode("utf-8", "replace"))
    except RecursionError:
        raise TooDeepError from None
    except ValueError:
        raise NotJsonError from None


def dumps(value: Any, indent: int | None = None) -> str:
    """Encode a decoded value, compact unless `indent` is given; raises `NotJsonError` where it is too deep."""
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    except RecursionError:
        raise TooDeepError from None


def _refuse(_: str) -> NoReturn:
    raise NotJsonError


_DECODE = msgspec.json.Decoder().decode
_PATIENT = json.JSONDecoder(strict=False, parse_constant=_refuse)
