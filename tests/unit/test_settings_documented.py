"""docs/settings.md and .env.example say what the loader reads: every variable, and no other."""

import re
from pathlib import Path

import pytest

from chatcore.settings import Mode, Settings
from tests.support.told import NEEDED, NEEDED_BY, read

ROOT = Path(__file__).parent.parent.parent
MODES: list[Mode] = ["stateless", "sqlite", "postgres"]
ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]*(?:_<BOT>)?)` \| (.*?) \|(.*)$", re.MULTILINE)


class Recording(dict[str, str]):
    """An environment that remembers which names were asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # narrower on purpose
        self.asked.add(name)
        return super().get(name, default)


def asked_with(values: dict[str, str]) -> set[str]:
    asked: set[str] = set()
    for mode in MODES:
        environ = Recording({**NEEDED_BY[mode], **values})
        read(environ, mode=mode)
        asked |= environ.asked
    return asked


def everything_read() -> set[str]:
    """Give all names that are looked up, those for bots as `…_<BOT>`."""
    with_bot = asked_with({**NEEDED, "N8N_WEBHOOK_URL_SOMEBOT": NEEDED["N8N_WEBHOOK_URL"]})
    return {name.replace("_SOMEBOT", "_<BOT>") for name in with_bot}


def documented() -> dict[str, tuple[str, str]]:
    rows = ROW.findall((ROOT / "docs" / "settings.md").read_text("utf-8"))
    assert len(rows) == len({name for name, _, _ in rows}), "a variable is documented twice"
    return {name: (default, meaning) for name, default, meaning in rows}


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    names = everything_read()
    files = {name for name in names if name.endswith("_FILE")}
    assert set(documented()) | {"N8N_WEBHOOK_URL_<BOT>"} == names - files


def test_the_documents_tell_which_may_be_files() -> None:
    marked = {name for name, (default, meaning) in documented().items() if "**file**" in default + meaning}
    names = {name.removesuffix("_FILE") for name in everything_read() if name.endswith("_FILE")}
    assert marked | {"N8N_WEBHOOK_URL_<BOT>"} == names


DEFAULTS = {
    name: default.strip("`") for name, (default, _) in documented().items() if re.fullmatch(r"`[^`<>]+`", default)
}


@pytest.mark.parametrize("name", [name for name in sorted(DEFAULTS) if "<BOT>" not in name])
def test_a_documented_default_is_the_default(name: str) -> None:
    def shown(settings: Settings) -> str:
        return repr(settings)

    for mode in MODES:
        needed = NEEDED_BY[mode]
        assert shown(read({**needed, name: DEFAULTS[name]}, mode=mode)) == shown(read(needed, mode=mode))


def test_the_example_file_holds_known_names_only() -> None:
    text = (ROOT / ".env.example").read_text("utf-8")
    names = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    assert names <= set(documented())
    settings = read({}, env_file=ROOT / ".env.example")
    assert settings.upstream.bots["default"].url == "https://n8n.example.com/webhook/chat"


def test_the_example_file_shows_what_works() -> None:
    text = (ROOT / ".env.example").read_text("utf-8")
    shown = dict(re.findall(r"^#([A-Z][A-Z0-9_]+)=(.+)$", text, re.MULTILINE))
    for mode in MODES:
        read({**NEEDED_BY[mode], **shown}, mode=mode)
