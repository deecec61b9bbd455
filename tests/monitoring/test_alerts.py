"""The alert rules, each on series that must and must not make it fire; no alert without its section in the runbook."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import sources
from tests.support.prometheus import promtool

RULES = sources.ROOT / "deploy" / "monitoring" / "alerts.yml"
ONE = 'job="chatcore",instance="one"'
UP = f"up{{{ONE}}}"
HEALTHY = {
    UP: "1x60",
    f'chatcore_health{{{ONE},check="n8n"}}': "0x60",
    f'chatcore_health{{{ONE},check="service"}}': "0x60",
}


@dataclass(frozen=True)
class Case:
    """Series by name with their values a minute, added to those of a healthy instance; what fires in minute `at`."""

    alert: str
    series: dict[str, str]
    fires: bool = True
    at: int = 30


def _one(name: str, values: str, labels: str = "") -> dict[str, str]:
    return {f"chatcore_{name}{{{ONE}{',' + labels if labels else ''}}}": values}


def _replies(errors: str, code: str = "upstream_error") -> dict[str, str]:
    return {
        **_one("replies_total", "0+10x60", 'bot="a",finish_reason="complete"'),
        **_one("replies_total", errors, 'bot="a",finish_reason="error"'),
        **_one("reply_errors_total", errors, f'bot="a",code="{code}"'),
    }


def _first_texts(slow: str) -> dict[str, str]:
    return {
        **_one("first_text_seconds_bucket", slow, 'bot="a",le="30.0"'),
        **_one("first_text_seconds_bucket", "0+10x60", 'bot="a",le="60.0"'),
        **_one("first_text_seconds_bucket", "0+10x60", 'bot="a",le="+Inf"'),
        **_one("first_text_seconds_count", "0+10x60", 'bot="a"'),
    }


ONCE, NEVER = "0x25 1x30", "0x60"

CASES = (
    Case("ChatcoreDown", {UP: "1x20 0x40"}),
    Case("ChatcoreDown", {UP: "1x20 _x40"}),
    Case("ChatcoreDown", {UP: "1x29 0x40"}, fires=False),
    Case("ChatcoreDown", {UP: "1x20 0x40", 'up{job="chatcore",instance="two"}': "1x60"}, fires=False),
    Case("ChatcoreInstanceDown", {UP: "1x20 0x40", 'up{job="chatcore",instance="two"}': "1x60"}),
    Case("ChatcoreInstanceDown", {UP: "1x29 0x1 1x40"}, fires=False),
    Case("ChatcoreInstanceDown", {'up{job="node",instance="two"}': "0x60"}, fires=False),
    Case("ChatcoreRefusesMessages", _one("health", "0x20 2x40", 'check="service"')),
    Case("ChatcoreRefusesMessages", _one("health", "0x20 2x40", 'check="postgres"')),
    Case("ChatcoreRefusesMessages", _one("health", "0x20 2x40", 'check="n8n"'), fires=False),
    Case("ChatcoreN8nUnreachable", _one("circuit_open", "0x20 1x40", 'bot="a"')),
    Case("ChatcoreN8nUnreachable", _one("circuit_open", "0x20 1x5 0x40", 'bot="a"'), fires=False),
    Case("ChatcoreRepliesFail", _replies("0+2x60"), at=50),
    Case("ChatcoreRepliesFail", _replies("0+20x60")),
    Case("ChatcoreRepliesFail", _replies("0+1x60"), fires=False, at=50),
    Case("ChatcoreRepliesFail", _replies("0+20x60", "body_too_large"), fires=False),
    Case("ChatcoreN8nRefuses", _one("reply_errors_total", ONCE, 'bot="a",code="upstream_refused"')),
    Case("ChatcoreN8nRefuses", _one("reply_errors_total", ONCE, 'bot="a",code="upstream_not_found"')),
    Case("ChatcoreN8nRefuses", _one("reply_errors_total", NEVER, 'bot="a",code="upstream_refused"'), fires=False),
    Case("ChatcoreOverloaded", _one("refusals_total", "0x28 1x30", 'code="overloaded"')),
    Case("ChatcoreOverloaded", _one("refusals_total", "0x28 1x30", 'code="token_missing"'), fires=False),
    Case("ChatcoreSlowFirstText", _first_texts("0+5x60"), at=40),
    Case("ChatcoreSlowFirstText", _first_texts("0+10x60"), fires=False, at=40),
    Case("ChatcoreCrashed", _one("crashes_total", ONCE, 'where="turn"')),
    Case("ChatcoreCrashed", _one("crashes_total", NEVER, 'where="turn"'), fires=False),
    Case("ChatcoreRestarts", _one("process_start_time_seconds", "1x20 2x2 3x2 4x40")),
    Case("ChatcoreRestarts", _one("process_start_time_seconds", "1x20 2x40"), fires=False),
    Case("ChatcoreStoreDegraded", _one("health", "0x20 1x40", 'check="store"')),
    Case("ChatcoreStoreDegraded", _one("health", "0x20 1x40", 'check="postgres"')),
    Case("ChatcoreStoreDegraded", _one("health", "0x27 1x40", 'check="postgres"'), fires=False),
    Case("ChatcoreMessagesLost", _one("store_lost_total", ONCE)),
    Case("ChatcoreMessagesLost", _one("store_lost_total", "7x60"), fires=False),
    Case("ChatcoreRedisDown", _one("redis_up", "1x20 0x40")),
    Case("ChatcoreRedisDown", _one("redis_up", "1x60"), fires=False),
    Case("ChatcoreUpkeepFailed", _one("store_events_total", ONCE, 'what="backup_failed"')),
    Case("ChatcoreUpkeepFailed", _one("store_events_total", ONCE, 'what="cleanup_failed"')),
    Case("ChatcoreUpkeepFailed", _one("store_events_total", ONCE, 'what="backed_up"'), fires=False),
    Case("ChatcoreWorkerReplaced", _one("workers_replaced_total", ONCE)),
    Case("ChatcoreWorkerReplaced", _one("workers_replaced_total", "1x60"), fires=False),
    Case("ChatcoreWorkerSilent", _one("workers_silent", "0x20 1x40")),
    Case("ChatcoreWorkerSilent", _one("workers_silent", "0x29 1x1 0x40"), fires=False),
    Case("ChatcoreProxyNotTrusted", _one("health", "0x20 1x40", 'check="service"')),
    Case("ChatcoreProxyNotTrusted", _one("health", "0x20 1x40", 'check="redis"'), fires=False),
    Case("ChatcoreDescriptorsLow", _one("process_open_fds", "900x60") | _one("process_max_fds", "1000x60")),
    Case(
        "ChatcoreDescriptorsLow", _one("process_open_fds", "700x60") | _one("process_max_fds", "1000x60"), fires=False
    ),
    Case("ChatcoreConnectionLimit", _one("server_events_total", "0x28 1x30", 'what="connection_limit"')),
    Case("ChatcoreConnectionLimit", _one("server_events_total", "0x28 1x30", 'what="head_timeout"'), fires=False),
    Case("ChatcoreRepliesEvicted", _one("replies_evicted_total", ONCE)),
    Case("ChatcoreRepliesEvicted", _one("replies_evicted_total", NEVER), fires=False),
    Case("ChatcoreTokensGuessed", _one("admin_refused_total", "0+3x60") | _one("key_refused_total", NEVER)),
    Case("ChatcoreTokensGuessed", _one("key_refused_total", "0+3x60") | _one("admin_refused_total", NEVER)),
    Case("ChatcoreTokensGuessed", _one("admin_refused_total", ONCE) | _one("key_refused_total", NEVER), fires=False),
    Case("ChatcoreManyRefused", _one("refusals_total", "0+20x60", 'code="rate_limited"')),
    Case("ChatcoreManyRefused", _one("refusals_total", "0+20x60", 'code="daily_limit_reached"')),
    Case("ChatcoreManyRefused", _one("refusals_total", "0+5x60", 'code="rate_limited"'), fires=False),
)


def _alerts() -> list[str]:
    return re.findall(r"(?m)^\s+- alert: (\w+)$", RULES.read_text("utf-8"))


def test_every_alert_is_tried_both_ways() -> None:
    tried = {(case.alert, case.fires) for case in CASES}
    assert tried == {(alert, fires) for alert in _alerts() for fires in (True, False)}


def test_promtool_takes_the_rules() -> None:
    status, said = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert status == 0, said


def test_alerts_fire_when_they_must_and_at_no_other_time(tmp_path: Path) -> None:
    """Each case is a job of its own; where a job has no series any more, no other may be there."""
    gone = [case for case in CASES if "_" in case.series.get(UP, "")]
    together = [case for case in CASES if case not in gone]
    tests = [_promtool_test(cases) for cases in (together, *([case] for case in gone))]
    _check(tmp_path, tests)


def _promtool_test(cases: list[Case]) -> dict[str, object]:
    series, asked = [], []
    for number, case in enumerate(cases):
        job = f'job="chatcore-{number}"'
        for name, values in (HEALTHY | case.series).items():
            series.append({"series": name.replace('job="chatcore"', job), "values": values})
        ours = f'{job}, alertstate="firing"' if len(cases) > 1 else 'alertstate="firing"'
        others = "|".join({case.alert, "ChatcoreInstanceDown"} if case.alert == "ChatcoreDown" else {case.alert})
        for selected, expected in (
            (f'{ours}, alertname="{case.alert}"', [case.alert] if case.fires else []),
            (f'{ours}, alertname!~"{others}"', []),
        ):
            samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in expected]
            expression = f"group by (alertname) (ALERTS{{{selected}}})"
            asked.append({"expr": expression, "eval_time": f"{case.at}m", "exp_samples": samples})
    return {"interval": "1m", "input_series": series, "promql_expr_test": asked}


def _check(folder: Path, tests: list[dict[str, object]]) -> None:
    asked = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (folder / "alerts_test.yml").write_text(json.dumps(asked), "utf-8")
    status, said = promtool("test", "rules", folder / "alerts_test.yml")
    assert status == 0, said


def test_both_severities_of_failing_replies_are_reached(tmp_path: Path) -> None:
    def severities(errors: str, expected: tuple[str, ...]) -> dict[str, object]:
        series = HEALTHY | _replies(errors)
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (severity) (ALERTS{alertstate="firing", alertname="ChatcoreRepliesFail"})',
                    "eval_time": "50m",
                    "exp_samples": [{"labels": f'{{severity="{one}"}}', "value": 1} for one in expected],
                }
            ],
        }

    _check(tmp_path, [severities("0+2x60", ("warning",)), severities("0+20x60", ("critical", "warning"))])


@pytest.mark.parametrize("name", ["severity", "summary", "description", "runbook_url"])
def test_every_alert_says_what_it_is_about(name: str) -> None:
    rules = RULES.read_text("utf-8").split("- alert: ")[1:]
    assert rules
    assert not [rule.splitlines()[0] for rule in rules if not re.search(rf"\b{name}: \S", rule)]


def test_every_alert_has_its_section_in_the_runbook_and_the_other_way_round() -> None:
    text = (sources.ROOT / "docs" / "runbook.md").read_text("utf-8")
    sections = re.findall(r"(?m)^### (Chatcore\w+)$", text)
    assert sorted(sections) == sorted(set(_alerts()))
    urls = re.findall(r"(?m)^\s+runbook_url: docs/runbook\.md#(\w+)$", RULES.read_text("utf-8"))
    assert urls == [alert.lower() for alert in _alerts()]
