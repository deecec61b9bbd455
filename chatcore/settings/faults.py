"""What is wrong with a setting, told so that it can be mended, and how a value is shown without its secrets."""

import re
from collections.abc import Sequence

import msgspec

SHOWN_CHARS = 100

_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?([^/]*)(.*)$", re.DOTALL)
_NOT_A_PORT = re.compile(r":(?!\d{0,5}$).*$", re.DOTALL)
_PATH = re.compile(r"^(\.{0,2}/|~|[A-Za-z]:\\)")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One setting that is wrong.

    `value` is what may be shown of it: `None` for a secret and for what is not set. `source` says where it was found
    (`environment`, a file, an option). `example` is a line that works.
    """

    variable: str
    problem: str
    expected: str
    example: str
    value: str | None = None
    source: str = ""

    def __str__(self) -> str:
        found = "" if self.value is None else f" {self.value!r}"
        origin = f" (from {self.source})" if self.source else ""
        return f"{self.variable}{found}{origin}: {self.problem}"


class SettingsError(Exception):
    """The settings cannot be used. `faults` are all of them, not the first alone; `warnings` are of names not read."""

    def __init__(self, faults: Sequence[Fault], warnings: Sequence[str] = ()) -> None:
        """Carry at least one fault."""
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)


class BadValueError(ValueError):
    """A text is not what its setting needs: why, and where one is known, a value that would do.

    `shown` replaces the whole value where a part of it is at fault. `of_file`: the path is at fault, not the value.
    """

    def __init__(
        self, problem: str, *, better: str | None = None, shown: str | None = None, of_file: bool = False
    ) -> None:
        """Say why."""
        super().__init__(problem)
        self.problem = problem
        self.better = better
        self.shown = shown
        self.of_file = of_file


class BadEntriesError(ValueError):
    """Entries of a list are not what they should be: `errors` are those of all of them."""

    def __init__(self, errors: Sequence[BadValueError]) -> None:
        """Carry at least one error."""
        super().__init__("; ".join(error.problem for error in errors))
        self.errors = tuple(errors)


def shown_text(value: str) -> str:
    """Shorten a value that holds no secret, and leave nothing in it that moves a terminal's cursor."""
    shortened = value if len(value) <= SHOWN_CHARS else f"{value[:SHOWN_CHARS]}…"
    return "".join(character if character.isprintable() else "?" for character in shortened)


def shown_url(value: str) -> str:
    """Show an address without what may be a password: user information, query, fragment, a port that is none.

    Nothing is shown of `name=value` pairs, which databases take in the place of an address, a password among them.
    """
    if "://" not in value and "=" in re.split(r"[?#@]", value, maxsplit=1)[0]:
        return "***"
    head, at, rest = value.rpartition("@")
    scheme = _AUTHORITY.match(head)
    if at and scheme is not None:
        value = f"{scheme[1] or ''}***@{rest}"
    shown = re.split(r"[?#]", value, maxsplit=1)
    parts = _AUTHORITY.match(shown[0])
    if parts is None:
        return "***"
    text = f"{parts[1] or ''}{_NOT_A_PORT.sub(':***', parts[2])}{parts[3]}"
    return shown_text(text + ("?***" if len(shown) > 1 else ""))


def shown_path(value: str) -> str | None:
    """Show a path; but what does not look like one may be the secret itself, put in the wrong variable."""
    return shown_text(value) if _PATH.match(value) else None
