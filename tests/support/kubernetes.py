"""Manifests as a cluster would take them, and a container started by what its pod says."""

import base64
import re
from collections.abc import Iterable
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it brings no types

from tests.support import sources
from tests.support.kubectl import Manifest, read
from tests.support.server import ChatServer

FOLDER = sources.ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.25.0", kubernetes_validate.latest_version())
"""The oldest that our documents name, and the newest that there is a schema of."""

Invalid = kubernetes_validate.ValidationError
"""What `validate` raises."""

NOT_BUILT_IN = {"PodMonitor"}
"""Kinds of operators, whose schema is no part of Kubernetes."""


def manifests(*folders: str) -> list[Manifest]:
    """Give what `kubectl apply` finds in folders, or files, of ours."""
    found: list[Manifest] = []
    for folder in folders:
        path = FOLDER / folder
        for file in [path] if path.is_file() else sorted(path.glob("*.yaml")):
            found += read(file.read_text("utf-8"))
    return found


def validate(manifest: Manifest) -> None:
    """Raise where a Kubernetes that we name would not take a manifest as it is; unknown fields are faults."""
    for version in VERSIONS:
        if manifest["kind"] not in NOT_BUILT_IN:
            kubernetes_validate.validate(manifest, version, strict=True)


def one(found: Iterable[Manifest], *kinds: str) -> Manifest:
    """Give the only manifest of some kinds."""
    (manifest,) = [manifest for manifest in found if manifest["kind"] in kinds]
    return manifest


def workload(found: Iterable[Manifest]) -> Manifest:
    """Give what makes the pods."""
    return one(found, "Deployment", "StatefulSet")


def pod(found: Iterable[Manifest]) -> Manifest:
    """Give what each pod is made of."""
    template: Manifest = workload(found)["spec"]["template"]
    return template


def container(found: Iterable[Manifest]) -> Manifest:
    """Give the pod's only container."""
    (container,) = pod(found)["spec"]["containers"]
    return dict(container)


class Pod:
    """Starts the main of a mode as the pod's container says, with its volumes as folders below `folder`."""

    def __init__(self, found: Iterable[Manifest], folder: Path) -> None:
        self.found = list(found)
        self.folder = folder
        self.container = container(self.found)
        self.grace = int(pod(self.found)["spec"]["terminationGracePeriodSeconds"])
        self.places = {mount["mountPath"]: folder / mount["name"] for mount in self.container["volumeMounts"]}
        self._make_volumes()

    def _make_volumes(self) -> None:
        spec = pod(self.found)["spec"]
        claims = workload(self.found)["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"]: volume for volume in [*spec["volumes"], *(claim["metadata"] for claim in claims)]}
        assert volumes.keys() == {path.name for path in self.places.values()}
        for path in self.places.values():
            path.mkdir(parents=True, exist_ok=True)
            secret = volumes[path.name].get("secret")
            if secret:
                given = one(self.found, "Secret")
                assert given["metadata"]["name"] == secret["secretName"]
                for name, value in given["data"].items():
                    (path / name).write_bytes(base64.b64decode(value))

    @property
    def main(self) -> str:
        """The program of the image, by the Dockerfile's target that its tag names."""
        target = self.container["image"].rpartition("-")[2]
        stage = re.search(rf"(?ms)^FROM runtime AS {target}$.*?^ENTRYPOINT (.*?)$", _dockerfile())
        assert stage is not None
        (main,) = re.findall(r"main_\w+\.py", stage[1])
        return str(main)

    def environment(self) -> dict[str, str | None]:
        """What the container gets in its environment, paths as they are here."""
        (source,) = self.container["envFrom"]
        settings = one(self.found, "ConfigMap")
        assert settings["metadata"]["name"] == source["configMapRef"]["name"]
        values = {**settings["data"], **{one["name"]: one["value"] for one in self.container["env"]}}
        for name, value in values.items():
            for place, folder in self.places.items():
                if value.startswith(f"{place}/"):
                    values[name] = value.replace(place, str(folder), 1)
        own = {"JWT_SECRET_KEY": None, "SESSION_SECRET_KEY": None, "RATE_LIMIT_PER_MINUTE": None}
        return {**own, "SESSION_RATE_LIMIT_PER_MINUTE": None, "N8N_WEBHOOK_URL": None, **values}

    def start(self, **changed: str) -> ChatServer:
        """Start it on a free port, for 8000 is everybody's."""
        return ChatServer({**self.environment(), **changed}, main=self.main)


def _dockerfile() -> str:
    return (sources.ROOT / "Dockerfile").read_text("utf-8")
