"""The manifests in deploy/kubernetes: valid, restricted, of one piece, and started as docs/kubernetes.md says."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import kubernetes, sources
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import Place, commands
from tests.support.kubectl import Manifest, read
from tests.support.kubernetes import Pod
from tests.support.n8n import ScriptedN8n, published

MODES = ("stateless", "sqlite", "postgres")
LABELS = {"app.kubernetes.io/name": "chatcore"}
SITE = {"Origin": "https://www.example.com"}


def of_mode(mode: str) -> list[Manifest]:
    return kubernetes.manifests("namespace.yaml", "common", mode)


def test_a_cluster_takes_every_manifest_and_knows_every_field() -> None:
    files = [path for path in sorted(kubernetes.FOLDER.rglob("*.yaml")) if path.name != "prometheus-adapter.yaml"]
    for path in files:
        for manifest in read(path.read_text("utf-8")):
            kubernetes.validate(manifest)
    pod = kubernetes.workload(of_mode("stateless"))
    pod["spec"]["replica"] = 2
    with pytest.raises(kubernetes.Invalid):
        kubernetes.validate(pod)


@pytest.mark.parametrize("mode", MODES)
def test_selectors_and_names_meet(mode: str) -> None:
    found = of_mode(mode)
    template, spec = kubernetes.pod(found), kubernetes.workload(found)["spec"]
    assert {one["metadata"].get("namespace") for one in found} == {
        None,
        kubernetes.one(found, "Namespace")["metadata"]["name"],
    }
    assert template["metadata"]["labels"].items() >= LABELS.items()
    assert spec["selector"]["matchLabels"] == LABELS
    service = kubernetes.one(found, "Service")
    (port,) = service["spec"]["ports"]
    (of_container,) = kubernetes.container(found)["ports"]
    assert (service["spec"]["selector"], port["targetPort"]) == (LABELS, of_container["name"])
    assert kubernetes.one(found, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == LABELS
    (rule,) = kubernetes.one(found, "Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
    assert template["spec"]["serviceAccountName"] == kubernetes.one(found, "ServiceAccount")["metadata"]["name"]
    assert f"AS {kubernetes.container(found)['image'].rpartition('-')[2]}\n" in DOCKERFILE
    budgets = [one["spec"] for one in found if one["kind"] == "PodDisruptionBudget"]
    assert budgets == ([] if mode == "sqlite" else [{"maxUnavailable": 1, "selector": {"matchLabels": LABELS}}])
    replicas = {"sqlite": 1}.get(mode, 2)
    assert spec["replicas"] == replicas
    if mode == "sqlite":
        claim = kubernetes.one(found, "PersistentVolumeClaim")["metadata"]["name"]
        assert {"name": "data", "persistentVolumeClaim": {"claimName": claim}} in template["spec"]["volumes"]
        assert spec["strategy"] == {"type": "Recreate"}, "two servers cannot have the file"


DOCKERFILE = (sources.ROOT / "Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("mode", MODES)
def test_pods_fulfil_the_restricted_standard(mode: str) -> None:
    found = of_mode(mode)
    labels = kubernetes.one(found, "Namespace")["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}
    pod, container = kubernetes.pod(found)["spec"], kubernetes.container(found)
    of_pod, own = pod["securityContext"], container["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"}
    assert all("hostPort" not in port for port in container["ports"])
    sources_of_volumes = {key for volume in pod["volumes"] for key in volume if key != "name"}
    assert sources_of_volumes <= {"secret", "emptyDir", "persistentVolumeClaim"}
    assert pod["automountServiceAccountToken"] is False
    user = re.findall(r"(?m)^USER (\d+):(\d+)$", DOCKERFILE)[-1]
    assert (str(of_pod["runAsUser"]), str(of_pod["runAsGroup"])) == user
    assert of_pod["fsGroup"] == of_pod["runAsGroup"], "who reads the secrets and writes the disk"


class Cluster:
    """A place where docs/kubernetes.md is followed; what was applied is in `manifests`."""

    def __init__(self, folder: Path, n8n: ScriptedN8n) -> None:
        self.n8n, self.folder = n8n, folder
        for name in ("files", "cluster", "bin"):
            (folder / name).mkdir()
        shim = folder / "bin" / "kubectl"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {sources.ROOT}/tests/support/kubectl.py "$@"\n')
        shim.chmod(0o755)
        real = shutil.which("kubectl")
        assert real is not None
        given = {"CLUSTER": str(folder / "cluster"), "KUBECTL": real}
        self.place = Place(folder / "files", {**given, "PATH": f"{folder}/bin:{os.environ['PATH']}"})

    def type(self, text: str, **put: str) -> None:
        """Run commands of the document."""
        for written, instead in {"https://n8n.example.com/webhook/chat": self.n8n.url, **put}.items():
            text = text.replace(written, instead)
        self.place.run(text)

    @property
    def manifests(self) -> list[Manifest]:
        return [json.loads(file.read_text()) for file in sorted((self.folder / "cluster").iterdir())]

    def pod(self) -> Pod:
        """Give a pod of what was applied."""
        return Pod(self.manifests, self.folder / "volumes")


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path, n8n: ScriptedN8n) -> Cluster:
    n8n.answer(published)
    cluster = Cluster(tmp_path, n8n)
    cluster.type(commands("docs/kubernetes.md", "Before the first start", 0))
    return cluster


def make_secret(cluster: Cluster) -> None:
    cluster.type(commands("docs/kubernetes.md", "Start", 0))
    assert (cluster.place.folder / "secrets").stat().st_mode & 0o777 == 0o700
    kubernetes.validate(kubernetes.one(cluster.manifests, "Secret"))


def probe(server_url: str, pod: Pod, name: str) -> int:
    asked = pod.container[name]["httpGet"]
    assert asked["port"] == pod.container["ports"][0]["name"]
    return httpx.get(f"{server_url}{asked['path']}", trust_env=False, timeout=30.0).status_code


def chat(url: str) -> str:
    with httpx.Client(base_url=url, trust_env=False, timeout=30.0, headers=SITE) as client:
        token = client.post("/api/v1/session").json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        return str(client.post("/api/v1/chat", json={"message": "Hi"}, headers=bearer).json()["content"])


def test_a_stateless_pod_serves_is_watched_and_drains_in_its_time(cluster: Cluster) -> None:
    make_secret(cluster)
    cluster.type(commands("docs/kubernetes.md", "Change and update", 0))
    cluster.type(commands("docs/kubernetes.md", "Change and update", 1))
    pod = cluster.pod()
    settings = pod.environment()
    delay, grace = (int(settings[f"SHUTDOWN_{name}_SECONDS"] or 0) for name in ("DELAY", "GRACE"))
    assert pod.grace == delay + grace + 10
    with pod.start(SHUTDOWN_DELAY_SECONDS="2") as server:
        assert [probe(server.url, pod, f"{name}Probe") for name in ("startup", "liveness", "readiness")] == [200] * 3
        assert chat(server.url) == "Echo: Hi"
        assert_scaled_by_what_is_exported(cluster, pod, server.url)
        server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while probe(server.url, pod, "readinessProbe") != 503:
            assert time.monotonic() - began < 5
            time.sleep(0.01)
        assert probe(server.url, pod, "livenessProbe") == 200
        assert chat(server.url) == "Echo: Hi"
        assert server.wait(pod.grace) == 0


def assert_scaled_by_what_is_exported(cluster: Cluster, pod: Pod, url: str) -> None:
    cluster.type(commands("docs/kubernetes.md", "Scale by load", 0))
    cluster.type(commands("docs/kubernetes.md", "Scale by load", 1))
    monitor = kubernetes.one(cluster.manifests, "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert monitor["selector"]["matchLabels"] == LABELS
    assert endpoint["port"] == pod.container["ports"][0]["name"]
    credentials = endpoint["authorization"]["credentials"]
    secret = kubernetes.one(cluster.manifests, "Secret")
    assert credentials["name"] == secret["metadata"]["name"]
    token = (pod.places["/run/secrets/chatcore"] / credentials["key"]).read_text().strip()
    assert httpx.get(f"{url}{endpoint['path']}", trust_env=False, timeout=30.0).status_code == 401
    bearer = {"Authorization": f"{endpoint['authorization']['type']} {token}"}
    exported = httpx.get(f"{url}{endpoint['path']}", trust_env=False, timeout=30.0, headers=bearer).text
    scaler = kubernetes.one(cluster.manifests, "HorizontalPodAutoscaler")["spec"]
    target = kubernetes.workload(cluster.manifests)
    assert scaler["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": target["kind"],
        "name": target["metadata"]["name"],
    }
    (metric,) = scaler["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert re.search(rf"(?m)^{name} \d", exported), "a series of a pod has no labels of its own"
    (rule,) = kubernetes.manifests("autoscaling/prometheus-adapter.yaml")[0]["rules"]["custom"]
    series, matched = re.fullmatch(r"(\w+)\{(.*)\}", rule["seriesQuery"]).groups()  # type: ignore[union-attr]  # or fail
    assert series == name
    assert re.findall(r"(\w+)!=\"\"", matched) == list(rule["resources"]["overrides"]) == ["namespace", "pod"]
    assert rule["metricsQuery"] == "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)"


def test_the_other_workload_is_scaled_too() -> None:
    scaler = kubernetes.one(kubernetes.manifests("autoscaling/postgres.yaml"), "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["kind"] == kubernetes.workload(of_mode("postgres"))["kind"]


@pytest.fixture(name="all_secrets")
def _all_secrets(cluster: Cluster) -> Cluster:
    cluster.type(commands("docs/kubernetes.md", "Before the first start", 1))
    return cluster


def test_a_sqlite_pod_keeps_its_file_on_its_disk(all_secrets: Cluster) -> None:
    cluster = all_secrets
    cluster.type(commands("docs/kubernetes.md", "Start", 0).split("\nkubectl apply -f deploy/kubernetes/common")[0])
    cluster.type(commands("docs/kubernetes.md", "Start", 1))
    pod = cluster.pod()
    with pod.start() as server:
        assert httpx.get(f"{server.url}/health", trust_env=False, timeout=30.0).json()["mode"] == "sqlite"
        assert chat(server.url) == "Echo: Hi"
    assert (pod.places["/data"] / "chat_sessions.db").exists()


def test_a_postgres_pod_serves_with_its_journal_on_its_disk(
    all_secrets: Cluster, database: Database, redis_server: RedisDatabase
) -> None:
    cluster = all_secrets
    secrets = cluster.place.folder / "secrets"
    written: dict[str, Any] = {
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "REDIS_URL": redis_server.url,
    }
    for name, address in written.items():
        assert "example.com" in (secrets / name).read_text()
        (secrets / name).write_text(f"{address}\n")
    cluster.type(commands("docs/kubernetes.md", "Start", 0).split("\nkubectl apply -f deploy/kubernetes/common")[0])
    cluster.type(commands("docs/kubernetes.md", "Start", 2))
    pod = cluster.pod()
    with pod.start() as server:
        health = httpx.get(f"{server.url}/health", trust_env=False, timeout=30.0).json()
        assert (health["mode"], health["status"]) == ("postgres", "ok")
        assert chat(server.url) == "Echo: Hi"
        assert [path.name for path in pod.places["/data"].iterdir()][:1], "the journal"
