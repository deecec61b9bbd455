"""The running server does what its description says: requests of all kinds, made up by schemathesis, find nothing."""

import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path

import httpx

from tests.conftest import StartServer
from tests.support.answers import (
    answer_empty,
    answer_error,
    answer_json,
    answer_stream,
    answer_text,
    cut,
    drop_before_head,
)
from tests.support.n8n import ScriptedN8n
from tests.support.openai_sdk import KEY, KEYS
from tests.support.server import ChatServer

NOT_OURS = (
    "use_after_free",  # DELETE stops a reply, it does not remove it; and no stateless server can revoke a session
    "ensure_resource_availability",  # a session has no address of its own
)
FAST = ("--max-examples", "15", "--seed", "20260122")
LONG = ("--max-examples", "400")
TROUBLE = (
    answer_stream(["fine"]),
    answer_json({"message": "Error in workflow"}, 500),
    answer_error("so far"),
    answer_text("<!doctype html><html><title>Bad gateway</title></html>", 502),
    answer_empty(),
    cut("half"),
    answer_json({"code": 404, "message": "not registered"}, 404),
    answer_json({"message": "Authorization data is wrong!"}, 403),
    drop_before_head(),
)


def _examine(
    server: ChatServer, folder: Path, without: Iterable[str], *more: str, key: str | None = None, long: bool
) -> None:
    """Let schemathesis make up requests, with a session's token or with `key`; fails with its report."""
    browser = {"User-Agent": "schemathesis"}
    token = key or httpx.post(f"{server.url}/api/v1/session", headers=browser, trust_env=False).json()["token"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--header", "User-Agent: schemathesis"),
            *("--checks", "all", "--exclude-checks", ",".join(without)),
            *("--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"),
            *("--generation-database", "none", "--output-sanitize", "false"),
            *(LONG if long else FAST),
            *more,
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_COLOR": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=7200 if long else 300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.log}"


def test_no_request_finds_a_violation(
    start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path, *, long: bool
) -> None:
    _examine(start_server(n8n), tmp_path, NOT_OURS, long=long)
    assert n8n.requests, "no request was good enough to reach n8n"


def test_no_request_of_a_program_finds_a_violation(
    start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path, *, long: bool
) -> None:
    server = start_server(n8n, KEYS)
    _examine(server, tmp_path, NOT_OURS, "--include-path-regex", "^/v1/", key=KEY, long=long)
    assert n8n.requests, "no request was good enough to reach n8n"


def test_no_request_finds_a_violation_where_n8n_fails_in_every_way_and_all_is_switched_on(
    start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path, *, long: bool
) -> None:
    answers = cycle(TROUBLE)
    n8n.answer(lambda _: next(answers))
    environment = {
        "ACCEPT_HISTORY": "true",
        "N8N_WEBHOOK_URL_SHOP": n8n.url,
        "IDENTITY_SECRET_KEY": "tests-sign-identities-with-these-bytes",
        "DAILY_MESSAGE_LIMIT": "1000000",
        "MAX_MESSAGE_CHARS": "50",
        "DEMO_PAGE": "false",
    }
    server = start_server(n8n, environment)
    # A workflow that fails is answered with 5xx, rightly; a crash of ours would be in the log.
    _examine(server, tmp_path, (*NOT_OURS, "not_a_server_error"), long=long)
    assert "internal_error" not in server.log
    assert "unexpected exception" not in server.log
