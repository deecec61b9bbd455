"""compose.yaml beside the images and the page about it: what can be told without Docker; `run` starts it."""

import ipaddress
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it brings no types

from chatcore.settings.values import ServerSettings
from tests.support import documented, sources

FILE: dict[str, Any] = yaml.safe_load((sources.ROOT / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
MODES = [path.stem.removeprefix("main_") for path in sources.mains()]
CHATCORE = {name: service for name, service in SERVICES.items() if name.startswith("chatcore-")}
SECRET_SETTINGS = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|DATABASE\w*_URL|REDIS_URL")


def _default(written: str) -> str:
    """Give what Compose puts where no variable is set."""
    while written != (shorter := re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", written)):
        written = shorter
    return written


def _secret_names(service: dict[str, Any]) -> list[str]:
    return list(service.get("secrets", []))


def test_each_mode_has_a_profile_with_an_image_of_its_own() -> None:
    assert set(CHATCORE) == {f"chatcore-{mode}" for mode in MODES}
    for mode in MODES:
        service = CHATCORE[f"chatcore-{mode}"]
        assert service["profiles"] == [mode]
        assert service["image"] == f"chatcore:{mode}"
        assert service["build"] == {"context": ".", "target": mode}
    assert {name: service["profiles"] for name, service in SERVICES.items() if name not in CHATCORE} == {
        "postgres": ["postgres"],
        "redis": ["postgres"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"}
    assert {"mem_limit", "pids_limit", "healthcheck", "restart", "logging", "tmpfs"} <= service.keys()
    assert service.get("user", "").split(":")[0] not in {"0", "root"}


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files(name: str) -> None:
    service = SERVICES[name]
    environment: dict[str, str] = service.get("environment", {})
    shown = [
        variable for variable in environment if SECRET_SETTINGS.search(variable) and not variable.endswith("_FILE")
    ]
    assert not shown
    named = {
        value.removeprefix("/run/secrets/") for variable, value in environment.items() if variable.endswith("_FILE")
    }
    assert named <= set(_secret_names(service)) <= set(FILE["secrets"])
    if name in CHATCORE:  # the databases read the others in a script and a command
        assert named == set(_secret_names(service))


def test_whoever_stops_it_waits_longer_than_the_program_drains() -> None:
    usual = ServerSettings()
    for service in CHATCORE.values():
        seconds = float(_default(service["stop_grace_period"]).removesuffix("s"))
        assert seconds >= usual.shutdown_delay_seconds + usual.shutdown_grace_seconds + 10


def test_the_port_is_for_this_machine_and_its_proxy_is_believed() -> None:
    subnet = _default(FILE["networks"]["web"]["ipam"]["config"][0]["subnet"])
    assert ipaddress.ip_network(subnet).is_private
    for service in CHATCORE.values():
        assert [_default(port) for port in service["ports"]] == ["127.0.0.1:8000:8000"]
        assert _default(service["environment"]["TRUSTED_PROXIES"]) == subnet
        assert service["environment"]["API_PORT"] == "8000"
    assert FILE["networks"]["data"] == {"internal": True}
    for name in SERVICES.keys() - CHATCORE.keys():
        assert "ports" not in SERVICES[name]
        assert SERVICES[name]["networks"] == ["data"]


def test_the_images_of_others_are_pinned() -> None:
    images = [service["image"] for name, service in SERVICES.items() if name not in CHATCORE]
    assert images
    for image in images:
        assert re.fullmatch(r"docker\.io/library/\w+:\d+[\w.]*-bookworm", image)


def test_the_page_tells_each_variable_secret_service_and_volume() -> None:
    page = (sources.ROOT / "docs/containers.md").read_text("utf-8")
    variables = set(re.findall(r"\$\{(\w+)", (sources.ROOT / "compose.yaml").read_text("utf-8")))
    for name in {*variables, *FILE["secrets"], *SERVICES, *FILE["volumes"]}:
        assert f"`{name}`" in page, name
    assert f"`{_default('${X:-172.30.83.0/24}')}`" in page


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    place = documented.Place(tmp_path)
    place.run("umask 077; deploy/compose/make-secrets")
    folder = tmp_path / "secrets"
    made = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert set(made) == {Path(secret["file"]).name for secret in FILE["secrets"].values()} == set(FILE["secrets"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    random = re.findall(r"[0-9a-f]{64}", "".join(made.values()))
    assert len(random) == len(made)
    assert len(set(random)) == len(made) - 1  # Redis' password is in two files
    (folder / "redis.conf").unlink()
    (folder / "n8n_api_key").write_text("of my own\n", "utf-8")
    place.run("deploy/compose/make-secrets")
    again = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert again == {**made, "n8n_api_key": "of my own\n"}


def test_without_openssl_no_secret_is_made(tmp_path: Path) -> None:
    place = documented.Place(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/openssl").write_text("#!/bin/sh\nexit 1\n", "utf-8")
    (tmp_path / "bin/openssl").chmod(0o755)
    place.environment["PATH"] = f"{tmp_path}/bin:{place.environment['PATH']}"
    place.run("deploy/compose/make-secrets", status=1)
    assert not list((tmp_path / "secrets").iterdir())


def test_secrets_and_settings_are_neither_committed_nor_sent_to_a_build() -> None:
    kept = subprocess.run(
        ["git", "check-ignore", "secrets/jwt_secret_key", ".env"],
        cwd=sources.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert kept.split() == ["secrets/jwt_secret_key", ".env"]
    rules = (sources.ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in rules
    assert not [rule for rule in rules if rule.startswith("!") and re.match(r"!(\.|deploy|secrets)", rule)]
