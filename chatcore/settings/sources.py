"""Where settings come from: options, the environment, the `.env` file, and files named by `NAME_FILE`."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from chatcore.settings.faults import BadValueError, Fault, shown_path, shown_text

MAX_FILE_BYTES = 65536
MAX_VALUE_CHARS = 32768
OPTIONS = {"API_HOST": "--host", "API_PORT": "--port", "LOG_LEVEL": "--log-level"}


class Layer(msgspec.Struct, frozen=True):
    """One place that gives values. An earlier layer wins, with an empty value too: that means "not set"."""

    source: str
    values: Mapping[str, str]


class Found(msgspec.Struct, frozen=True):
    """A value as it was found, not blank, and where."""

    text: str
    source: str


def read_env_file(path: Path) -> tuple[Layer, list[Fault]]:
    """Read a `.env` file: `NAME=value` lines, quotes and comments as python-dotenv has them, nothing expanded."""
    from dotenv.parser import parse_stream  # noqa: PLC0415 - 15 ms that nobody without a file should pay

    name = str(path)
    try:
        text = text_of(path)
    except BadValueError as error:
        return Layer(name, {}), [_file_fault(name, error.problem)]
    values: dict[str, str] = {}
    faults: list[Fault] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            faults.append(_file_fault(name, f"line {binding.original.line} cannot be read"))
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return Layer(name, values), faults


def find(layers: Sequence[Layer], name: str, *, file: bool) -> Found | None:
    """Give what was set for `name`, or the content of the file that `name`_FILE names where `file` allows that.

    `None` when it is not set. Raises `BadValueError` when it cannot be had.
    """
    for layer in layers:
        text = layer.values.get(name)
        path = layer.values.get(f"{name}_FILE") if file else None
        if text is None and path is None:
            continue
        if text and path:
            raise BadValueError(f"is set, and so is {name}; keep one of them", shown="", of_file=True)
        if path:
            return _found_in_file(name, path)
        source = OPTIONS.get(name, layer.source) if layer.source == "options" else layer.source
        return Found(text, source) if text and text.strip() else None
    return None


def checked(text: str, *, secret: bool) -> str:
    """Refuse what no setting can be; give the text without white space around it.

    Python shows bytes of the environment that are not UTF-8 as lone surrogates.
    """
    if len(text) > MAX_VALUE_CHARS:
        raise BadValueError(f"is longer than {MAX_VALUE_CHARS} characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadValueError("is not UTF-8 text")
    if secret and text != text.strip():
        raise BadValueError("begins or ends with white space, which is hardly meant to belong to it")
    text = text.strip()
    if not text.isprintable():
        raise BadValueError("holds control characters or line breaks")
    return text


def _found_in_file(name: str, path: str) -> Found:
    try:
        text = text_of(Path(path)).rstrip("\r\n")
    except BadValueError as error:
        problem = f"names a file that {error.problem}"
        raise BadValueError(problem, shown=shown_path(path) or "", of_file=True) from None
    if not text.strip():
        raise BadValueError("names a file that is empty", shown=shown_path(path) or "", of_file=True)
    return Found(text, f"the file that {name}_FILE names")


def text_of(path: Path) -> str:
    """Give what a small text file holds. Raises `BadValueError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise BadValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadValueError("is not UTF-8 text") from None
    except ValueError:
        raise BadValueError("cannot be read: its name is no path") from None
    if len(content) > MAX_FILE_BYTES:
        raise BadValueError(f"is larger than {MAX_FILE_BYTES} bytes")
    return text


def _file_fault(name: str, problem: str) -> Fault:
    return Fault(
        variable="--env-file",
        value=shown_text(name),
        problem=problem,
        expected="a readable UTF-8 file of lines NAME=value",
        example="--env-file /etc/chatcore/chatcore.env",
    )
