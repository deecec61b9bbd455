"""The Dockerfile beside the rest of the repository: what can be told without building it. `run` builds it."""

import json
import re
from fnmatch import fnmatch

from chatcore import __version__
from tests.support import sources

WRITTEN = (sources.ROOT / "Dockerfile").read_text("utf-8")
DOCKERFILE = WRITTEN.replace("\\\n", " ")
IGNORED = (sources.ROOT / ".dockerignore").read_text("utf-8").splitlines()


def _stages() -> dict[str, str]:
    """Give the instructions of each stage by its name, those of the stages it is built on before them."""
    stages: dict[str, str] = {}
    for image, name, body in re.findall(r"(?ms)^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE):
        stages[name] = stages.get(image, f"FROM {image}\n") + body
    return stages


def _main_targets() -> list[str]:
    return [path.stem.removeprefix("main_") for path in sources.mains()]


def _file_of(target: str) -> str:
    """Give the file of a main's requirements: that of the largest has the name that people expect."""
    return "requirements.txt" if target == "postgres" else f"requirements-{target}.txt"


def _requirements(name: str) -> set[str]:
    """Give a file of requirements and those that it includes."""
    included = re.findall(r"(?m)^-r (\S+)$", (sources.ROOT / name).read_text("utf-8"))
    return {name}.union(*map(_requirements, included))


def test_there_is_a_target_for_each_main_and_its_build_is_told() -> None:
    assert set(_main_targets()) <= set(_stages())
    told = re.findall(r"(?m)^#   docker build --target (\w+) --tag chatcore:(\w+) \.$", WRITTEN)
    assert told == [(target, target) for target in sorted(_main_targets(), key=WRITTEN.index)]


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
        copied = re.findall(r"(?m)^COPY (?:--chmod=644 )?(\S+) ", build)
        optional = "requirements-tracing.txt"
        assert sorted(copied) == sorted({*_requirements(_file_of(target)), optional, f"main_{target}.py", "chatcore/"})
        assert not re.findall(r"(?m)^(?:COPY (?!--from)|ADD )", _stages()[target])
        assert set(re.findall(r"(?m)^COPY --from=(\S+) ", _stages()[target])) == {f"{target}-build"}


def test_the_packages_of_a_target_are_those_of_its_requirements() -> None:
    for target in _main_targets():
        build = _stages()[f"{target}-build"]
        assert 'ARG TRACES=""\n' in build
        wanted = re.sub(r'(?m)^RUN .*test -z "\$TRACES" \|\| .*$', "", build)
        installed = re.findall(r"--requirement /build/(\S+)", wanted)
        assert set(installed) == _requirements(_file_of(target))
        assert installed[-1] == _file_of(target)


def test_the_labels_tell_the_mode_and_the_version() -> None:
    for target in _main_targets():
        labels = re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', _stages()[target])
        assert len(labels) == len(dict(labels))
        assert dict(labels).keys() == {"title", "description", "version", "vendor", "licenses"}
        assert dict(labels)["version"] == __version__
        assert dict(labels)["title"] == f"chatcore ({target})"


def test_only_a_mode_with_a_file_has_a_volume_and_there_the_file_is() -> None:
    volumes = {target: re.findall(r"(?m)^VOLUME (.+)$", _stages()[target]) for target in _main_targets()}
    assert volumes == {"stateless": [], "sqlite": ['["/data"]'], "postgres": ['["/data"]']}
    for target, variable in (("sqlite", "SQLITE_DB_PATH"), ("postgres", "SPOOL_PATH")):
        stage = _stages()[target]
        assert re.findall(rf"(?m)^ENV {variable}=/data/\S+$", stage)
        # What is done to a folder after VOLUME is lost with some builders.
        made = r"(?ms)^RUN install --directory --mode=0700 --owner=10001 --group=10001 /data$.*^VOLUME "
        assert re.search(made, stage)
        assert stage.rindex("USER 10001:10001\n") > stage.rindex("\nRUN ")


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
    needed = {name for target in _main_targets() for name in _requirements(_file_of(target))}
    assert {"chatcore", *(f"main_{target}.py" for target in _main_targets())} | needed <= sent
    assert not [name for name in sent if not re.fullmatch(r"chatcore|main_\w+\.py|requirements[\w-]*\.txt", name)]
