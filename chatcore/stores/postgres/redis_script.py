"""The one script that does everything atomic in Redis, put together from `lua/*.lua`, and calls of it as bytes.

A file that is dropped into `lua` is part of it. One `EVALSHA` runs any number of operations; each of them is atomic.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).parent / "lua"
_FIRST, _LAST = "clock.lua", "dispatch.lua"

Argument = str | bytes | int | float


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One operation, packed: its key, and all that follows as `count` strings of Redis' protocol."""

    key: bytes
    rest: bytes
    count: int


def lua_source() -> str:
    """Read the script. Operations come in the order of their files' names, each with locals of its own."""
    middle = sorted(path for path in _FOLDER.glob("*.lua") if path.name not in {_FIRST, _LAST})
    blocks = [f"do\n{path.read_text('utf-8')}end\n" for path in middle]
    first, last = ((_FOLDER / name).read_text("utf-8") for name in (_FIRST, _LAST))
    return "".join([first, *blocks, last])


class Script:
    """A script as Redis knows it: `load` puts it there, `run` has it do a list of operations."""

    def __init__(self, source: str) -> None:
        self.load = b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n" + _packed(source)
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._evalsha = b"$7\r\nEVALSHA\r\n" + _packed(sha)

    def run(self, operations: Sequence[Operation]) -> bytes:
        """Give the command that does `operations`."""
        count = 3 + sum(1 + one.count for one in operations)
        return b"".join(
            (
                b"*%d\r\n" % count,
                self._evalsha,
                _packed(len(operations)),
                *[one.key for one in operations],
                *[one.rest for one in operations],
            )
        )


def pack(operation: str, key: str | bytes, arguments: Sequence[Argument]) -> Operation:
    """Pack one operation."""
    rest = _head(operation, len(arguments)) + b"".join(map(_packed, arguments))
    return Operation(_packed(key), rest, 2 + len(arguments))


@lru_cache(256)
def _head(operation: str, count: int) -> bytes:
    return _packed(operation) + _packed(count)


def _packed(value: Argument) -> bytes:
    data = value if type(value) is bytes else str(value).encode("utf-8", "surrogatepass")
    return b"$%d\r\n%b\r\n" % (len(data), data)
