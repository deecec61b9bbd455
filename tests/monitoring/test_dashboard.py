"""The dashboard as a file: what Grafana wants of it, and that it shows every family of metrics and no other."""

import json
import re
from itertools import combinations, pairwise
from typing import Any

import pytest

from tests.support import sources

FOLDER = sources.ROOT / "deploy" / "monitoring"
METRIC = re.compile(r"\bchatcore_\w+")
OF_THE_PROCESS = {
    *("chatcore_process_cpu_seconds_total", "chatcore_process_resident_memory_bytes"),
    *("chatcore_process_open_fds", "chatcore_process_max_fds", "chatcore_process_start_time_seconds"),
}
"""Of the families that prometheus_client has for processes, those that are used."""


def _dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
    return read


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in _dashboard()["panels"] if panel["type"] != "row"]


def _documented() -> set[str]:
    text = (sources.ROOT / "docs" / "operations.md").read_text("utf-8")
    return set(re.findall(r"(?m)^\| `(chatcore_\w+)` \|", text))


def _families(text: str) -> set[str]:
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in METRIC.findall(text)}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = _dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    boxes = [(panel["title"], panel["gridPos"]) for panel in panels]
    assert not [title for title, box in boxes if box["x"] + box["w"] > 24]
    for (one, a), (other, b) in combinations(boxes, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, f"{one} and {other} overlap"
    assert all(a["gridPos"]["y"] <= b["gridPos"]["y"] for a, b in pairwise(panels))


def test_every_panel_has_a_unit_a_legend_and_the_chosen_datasource() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in _panels():
        assert panel["datasource"] == chosen, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(letters) == len(set(letters)), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            assert target["legendFormat"]


def test_variables_are_declared_and_used() -> None:
    dashboard = _dashboard()
    declared = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert declared == {"datasource", "job", "instance", "bot"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used - {"__rate_interval"} == declared
    expressions = [target["expr"] for panel in _panels() for target in panel["targets"]]
    assert not [one for one in expressions if one.count('instance=~"$instance"') < len(METRIC.findall(one))]


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "alerts.yml"])
def test_only_metrics_that_there_are_are_asked_for(name: str) -> None:
    asked = _families((FOLDER / name).read_text("utf-8"))
    assert asked <= _documented() | OF_THE_PROCESS


def test_the_dashboard_shows_every_family() -> None:
    shown = _families(json.dumps([target["expr"] for panel in _panels() for target in panel["targets"]]))
    assert shown == _documented() | OF_THE_PROCESS
