"""The Dockerfile beside the rest of the repository: what can be told without building it. `run` builds it."""

import json
import re
from fnmatch import fnmatch

from chatcore import __version__
from tests.support import sources

DOCKERFILE = (sources.ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
IGNORED = (sources.ROOT / ".dockerignore").read_text("utf-8").splitlines()


def _stages() -> dict[str, str]:
    """Give the instructions of each stage by its name, those of the stages it is built on before them."""
    stages: dict[str, str] = {}
    for image, name, body in re.findall(r"(?ms)^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE):
        stages[name] = stages.get(image, f"FROM {image}\n") + body
    return stages


def _main_targets() -> list[str]:
    return [path.stem.removeprefix("main_") for path in sources.mains()]


def test_there_is_a_target_for_each_main() -> None:
    assert set(_main_targets()) <= set(_stages())


def test_a_target_runs_as_a_number_and_ends_by_sigterm() -> None:
    for target in _main_targets():
        stage = _stages()[target]
        users = re.findall(r"(?m)^USER (.+)$", stage)
        assert users, target
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])
        assert re.findall(r"(?m)^STOPSIGNAL (.+)$", stage) == ["SIGTERM"]
        assert json.loads(re.findall(r"(?m)^ENTRYPOINT (.+)$", stage)[-1]) == ["python", f"main_{target}.py"]


def test_a_target_holds_what_its_main_needs_and_no_more() -> None:
    for target in _main_targets():
        build = _stages()[f"{target}-build"]
        copied = set(re.findall(r"(?m)^COPY (?!--from)(\S+) ", build))
        assert copied == {f"requirements-{target}.txt", f"main_{target}.py", "chatcore/"}
        assert not re.findall(r"(?m)^(?:COPY (?!--from)|ADD )", _stages()[target])


def test_the_label_tells_the_version() -> None:
    versions = re.findall(r'org\.opencontainers\.image\.version="([^"]+)"', DOCKERFILE)
    assert set(versions) == {__version__}
    assert len(versions) == len(_main_targets())


def test_the_health_check_is_a_python_program() -> None:
    commands = re.findall(r"(?m)^HEALTHCHECK .*?CMD (\[.+\])$", DOCKERFILE)
    assert len(commands) == 1
    program, *_, code = json.loads(commands[0])
    assert program == "python"
    compile(code, "HEALTHCHECK", "exec")
    assert "/health/live" in code


def test_the_base_image_is_pinned_by_its_tag() -> None:
    images = set(re.findall(r"(?m)^FROM (\S+)", DOCKERFILE)) - set(_stages())
    assert images == {"docker.io/library/python:3.11-slim"}


def test_only_what_an_image_holds_is_sent_to_the_build() -> None:
    rules = [line for line in IGNORED if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {
        path.name
        for path in sources.ROOT.iterdir()
        if any(rule.startswith("!") and fnmatch(path.name, rule[1:]) for rule in rules)
    }
    assert {"chatcore", "main_stateless.py", "requirements-stateless.txt"} <= sent
    assert not [name for name in sent if not re.fullmatch(r"chatcore|main_\w+\.py|requirements[\w-]*\.txt", name)]
