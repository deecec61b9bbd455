"""A real Prometheus for tests: started on a configuration, asked through its HTTP API; and its promtool."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support import processes
from tests.support.client import NO_TLS
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

Sample = tuple[Mapping[str, str], float]


def promtool(*arguments: str | Path, reads: str = "", folder: Path | None = None) -> tuple[int, str]:
    """Run promtool; gives its status and all that it printed."""
    done = subprocess.run(
        [processes.find_program("promtool"), *map(str, arguments)],
        input=reads,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


class Prometheus(ServerProcess):
    """Runs with `files` (their names and texts) in its folder, of which `prometheus.yml` is the configuration."""

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__("prometheus")
        for name, text in files.items():
            processes.write_for_servers(self.folder / name, text)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = httpx.Client(trust_env=False, timeout=10.0, verify=NO_TLS, base_url=self.url)

    def start(self) -> None:
        """Start it and wait until it answers. Raises `ProgramFailedError`."""
        command: Sequence[str] = (
            processes.find_program("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        )
        self.launch(command, self._ready)

    def _ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _api(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Sample]:
        """Give what an expression is now: labels and value of each element. The test fails where it does not parse."""
        found = self._api("query", query=expression)
        assert found["resultType"] == "vector", expression
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def targets_up(self) -> int:
        """How many targets were scraped without a fault."""
        return sum(one["health"] == "up" for one in self._api("targets")["activeTargets"])

    def rules(self) -> list[dict[str, Any]]:
        """Give all rules as it has them: name, query, state, annotations of alerts that are active."""
        return [rule for group in self._api("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> dict[str, list[dict[str, Any]]]:
        """Give the alerts that fire, by name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self._api("alerts")["alerts"]:
            if one["state"] == "firing":
                found.setdefault(one["labels"]["alertname"], []).append(one)
        return found

    def close(self) -> None:
        """End it and remove its folder."""
        self._http.close()
        self.end(signal.SIGTERM)
        super().close()
