"""The command line, and what `check` makes of what it finds."""

import http.client
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

from chatcore import cli
from chatcore.cli.check import descriptors
from chatcore.cli.probe import Answer, clock, read, unreachable
from chatcore.settings import BotSettings, ServerSettings, SettingsError
from chatcore.stores import stateless
from tests.support import told

BOT = BotSettings(name="default", url="https://n8n.example/webhook/chat", api_key="k", basic_auth=("u", "p"))


def run(argv: list[str], environ: Mapping[str, str], home: Path) -> int:
    return cli.main("stateless", stateless.open_stores, argv, environ, home)


@pytest.mark.parametrize(
    "argv",
    [
        ["--port"],
        ["--prt", "1"],
        ["--por", "1"],
        ["serve-me"],
        ["check", "twice"],
        ["--workers", "0"],
        ["--workers", "two"],
        ["--workers", "9" * 99],
    ],
)
def test_options_that_do_not_exist_are_status_2(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv, told.NEEDED, tmp_path) == 2
    assert "usage:" in capsys.readouterr().err


def test_several_processes_are_refused_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--workers", "2"], told.NEEDED, tmp_path) == 2
    said = capsys.readouterr().err
    assert "more instances on more ports" in said
    assert "X-Chat-Session" in said


def test_the_usual_file_lies_beside_the_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("API_PORT=from-the-file\n", "utf-8")
    assert run([], told.NEEDED, tmp_path) == 2
    assert "'from-the-file'" in capsys.readouterr().err
    (tmp_path / "other.env").write_text("API_PORT=from-the-other\n", "utf-8")
    assert run(["--env-file", str(tmp_path / "other.env")], told.NEEDED, tmp_path) == 2
    assert "'from-the-other'" in capsys.readouterr().err


def test_a_report_has_each_fault_with_its_remedy() -> None:
    with pytest.raises(SettingsError) as refused:
        told.read({"API_PORT": "x", "N8N_WEBHOK_URL": "y"})
    report = cli.report(refused.value, "main_stateless.py")
    assert report.startswith("main_stateless.py cannot start: 2 settings are wrong.")
    assert "FAULT API_PORT 'x' (from environment): is not a whole number.\n  expected: a whole number" in report
    assert "\n  for example: API_PORT=8000\n" in report
    assert report.endswith("warning: N8N_WEBHOK_URL is not read. Is N8N_WEBHOOK_URL meant?")


def test_a_stand_in_gets_no_credentials() -> None:
    settings = told.read({"N8N_API_KEY": "k", "N8N_WEBHOOK_URL_B": "https://u:p@n8n.example/b"}, demo=True)
    bots = cli.before_standin(settings, "http://127.0.0.1:1/webhook/demo").upstream.bots
    assert [(bot.name, bot.url, bot.api_key, bot.basic_auth) for bot in bots.values()] == [
        ("default", "http://127.0.0.1:1/webhook/demo", None, None),
        ("b", "http://127.0.0.1:1/webhook/demo", None, None),
    ]


@pytest.mark.parametrize(
    ("status", "content_type", "methods", "body", "state", "said"),
    [
        (204, "", "OPTIONS, GET, POST", b"", "ok", "active workflow takes POST"),
        (204, "", "OPTIONS, GET", b"", "FAULT", "no active workflow"),
        (204, "", "OPTIONS", b"", "FAULT", "no active workflow"),
        (204, "", None, b"", "ok", "with a message"),
        (308, "", None, b"", "FAULT", "never followed"),
        (401, "", None, b"", "warning", "asks for"),
        (
            404,
            "application/json; charset=utf-8",
            None,
            b'{"code":404,"message":"The requested webhook \\"OPTIONS x\\" is not registered.","hint":"..."}',
            "FAULT",
            "not active",
        ),
        (404, "text/html; charset=utf-8", None, b"<!DOCTYPE html>\n<html>", "FAULT", "still starting"),
        (404, "", None, b"  <!doctype html>", "FAULT", "still starting"),
        (404, "application/json", None, b"[" * 5000, "warning", "404"),
        (404, "application/json", None, b'{"message":5}', "warning", "404"),
        (404, "", None, b"", "warning", "404"),
        (405, "", None, b"", "warning", "405"),
        (500, "", None, b"", "warning", "500"),
        (503, "text/html", None, b"", "FAULT", "Start n8n"),
    ],
)
def test_an_answer_to_the_preflight_is_understood(
    status: int, content_type: str, methods: str | None, body: bytes, state: str, said: str
) -> None:
    found = read(Answer(status=status, content_type=content_type, methods=methods, body=body, skew=None))
    assert found[0] == state
    assert said in found[1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ssl.SSLCertVerificationError(1, "x"), "certificate"),
        (ssl.SSLError(1, "x"), "TLS"),
        (socket.gaierror(-2, "x"), "resolved"),
        (ConnectionRefusedError(111, "x"), "refuses"),
        (ConnectionResetError(104, "x"), "HTTP"),
        (http.client.BadStatusLine("x"), "HTTP"),
        (TimeoutError(), "in time"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_a_connection_that_fails_is_explained(error: Exception, said: str) -> None:
    assert said in unreachable(error)


@pytest.mark.parametrize(
    ("skew", "state", "said"),
    [
        (None, "warning", "no time"),
        (0.4, "ok", "0 s"),
        (-30.0, "ok", "30 s"),
        (31.0, "FAULT", "31 s behind"),
        (-40.0, "FAULT", "40 s ahead of"),
    ],
)
def test_clocks_are_compared(skew: float | None, state: str, said: str) -> None:
    finding = clock(BOT, skew)
    assert finding.state == state
    assert said in finding.text


@pytest.mark.parametrize(("limit", "state"), [(None, "ok"), (1000, "ok"), (999, "FAULT")])
def test_descriptors_are_counted(limit: int | None, state: str) -> None:
    finding = descriptors(ServerSettings(descriptors_wanted=1000), limit)
    assert finding.state == state
    assert ("MAX_CONNECTIONS" in finding.text) is (state == "FAULT")
