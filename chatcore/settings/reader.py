"""Takes settings one by one from their sources and gathers what is wrong with them."""

from collections.abc import Sequence
from typing import TypeVar

from chatcore.settings.faults import BadEntriesError, BadValueError, Fault, shown_text, shown_url
from chatcore.settings.forms import Form
from chatcore.settings.sources import Found, Layer, checked, find

T = TypeVar("T")
D = TypeVar("D")


class Reader:
    """Reads variables by name. A wrong one becomes a fault and counts as not set, so that all faults are found.

    `asked` are the names read so far, `given` where each that was set came from.
    """

    def __init__(self, layers: Sequence[Layer], faults: Sequence[Fault]) -> None:
        """Read from `layers`, the first that has a name wins; `faults` were found before."""
        self.layers = tuple(layers)
        self.faults = list(faults)
        self.warnings: list[str] = []
        self.asked: set[str] = set()
        self.given: dict[str, str] = {}

    def take(self, name: str, form: Form[T], *, default: D) -> T | D:
        """Give the value of `name` as `form` reads it, or `default` where it is not set or wrong."""
        self.asked.add(name)
        if form.file:
            self.asked.add(f"{name}_FILE")
        found: Found | None = None
        try:
            found = find(self.layers, name, file=form.file)
            if found is None:
                return default
            value = form.parse(checked(found.text, secret=form.shows == "nothing"))
        except BadValueError as error:
            self.faults.append(_fault(name, form, error, found))
            return default
        except BadEntriesError as error:
            self.faults.extend(_fault(name, form, entry, found) for entry in error.errors)
            return default
        self.given[name] = found.source
        return value

    def names(self) -> set[str]:
        """Give every name that is set to something, ours or not."""
        return {name for layer in self.layers for name in layer.values if self.is_set(name)}

    def is_set(self, name: str) -> bool:
        """Tell whether the first source that has `name` gives it a value that is not blank."""
        text = next((layer.values[name] for layer in self.layers if name in layer.values), "")
        return bool(text.strip())

    def is_faulty(self, name: str) -> bool:
        """Tell whether `name` was refused already."""
        return any(fault.variable in {name, f"{name}_FILE"} for fault in self.faults)

    def refuse(self, variable: str, problem: str, expected: str, example: str, value: str | None = None) -> None:
        """Add a fault that only shows once several settings are compared. `value` holds no secret."""
        source = self.given.get(variable, "")
        self.faults.append(
            Fault(variable=variable, value=value, problem=problem, expected=expected, example=example, source=source)
        )

    def warn(self, sentence: str) -> None:
        """Add what the operator should know though it stops nothing."""
        self.warnings.append(sentence)


def _fault(name: str, form: Form[T], error: BadValueError, found: Found | None) -> Fault:
    if error.of_file:
        return Fault(
            variable=f"{name}_FILE",
            value=error.shown or None,
            problem=error.problem,
            expected="the path of a readable UTF-8 file that holds the value and nothing else",
            example=f"{name}_FILE=/run/secrets/{name.lower()}",
        )
    if error.shown is not None:
        value = error.shown or None
    elif found is None or form.shows == "nothing":
        value = None
    else:
        value = shown_url(found.text) if form.shows == "url" else shown_text(found.text)
    example = form.example if error.better is None else error.better
    return Fault(
        variable=name,
        value=value,
        problem=error.problem,
        expected=form.expected,
        example=f"{name}={example}" if example else pasteable(name, found),
        source="" if found is None else found.source,
    )


def pasteable(name: str, found: Found | None = None) -> str:
    """Give a line for a shell that makes a good secret for `name`.

    A `.env` file is read, not run, so the line for it lets the shell write the value.
    """
    named = "anna:" if name.startswith("ADMIN_TOKENS") else ""
    line = f"{name}={named}$(python3 -c 'import secrets; print(secrets.token_hex(32))')"
    if found is None or found.source == "environment":
        return f"export {line}"
    return f'echo "{line}" >> .env'
