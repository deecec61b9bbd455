"""The workflows to import into n8n: nodes that n8n has, nothing secret, and only what our requests really hold."""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jose import jwt

from chatcore import strictjson
from tests.conftest import MakeClient, StartServer
from tests.support import sources
from tests.support.answers import Answer, answer_json
from tests.support.n8n import Request, ScriptedN8n
from tests.support.server import N8N_SECRET, ChatServer

FOLDER = sources.ROOT / "deploy" / "n8n"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))
GUIDE = (sources.ROOT / "docs" / "n8n.md").read_text("utf-8")
SITE = "https://shop.example"
IDENTITY_SECRET = "a-site-vouches-for-users-with-this"

# Versions that n8n 2.0.0 and 2.41.1 both have; a newer one could not be imported into an older n8n.
NODES = {
    "n8n-nodes-base.webhook": 2.1,
    "n8n-nodes-base.respondToWebhook": 1.5,
    "n8n-nodes-base.if": 2.3,
    "n8n-nodes-base.stopAndError": 1,
    "n8n-nodes-base.stickyNote": 1,
    "@n8n/n8n-nodes-langchain.chatTrigger": 1.4,
    "@n8n/n8n-nodes-langchain.agent": 3,
    "@n8n/n8n-nodes-langchain.lmChatOpenAi": 1.3,
    "@n8n/n8n-nodes-langchain.memoryBufferWindow": 1.3,
}
EVALUATE = """
const { expression, $json, $binary } = JSON.parse(require("fs").readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(new Function("$json", "$binary", `return (${expression});`)($json, $binary)));
"""


def workflow(file: str) -> dict[str, Any]:
    """Read one of the workflows."""
    read: dict[str, Any] = strictjson.decode((FOLDER / file).read_bytes())
    return read


def node(file: str, kind: str) -> dict[str, Any]:
    """Give the parameters of the one node of this type."""
    (found,) = [one for one in workflow(file)["nodes"] if one["type"].endswith(f".{kind}")]
    parameters: dict[str, Any] = found["parameters"]
    return parameters


def texts(value: Any) -> Iterator[str]:
    """Give every text inside, names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from texts(item)


def expressions(file: str) -> list[str]:
    """Give the expressions of a workflow, without the braces around them."""
    found = [text for text in texts(workflow(file)) if text.startswith("=")]
    inside = [re.fullmatch(r"=\{\{ (.+) \}\}", text, re.DOTALL) for text in found]
    assert all(inside), "an expression is more than one pair of braces"
    return [match[1] for match in inside if match]


def evaluate(expression: str, item: Any, binary: Any = None) -> Any:
    """Give what an expression comes to, as n8n does: it is JavaScript with `$json` and `$binary`."""
    given = json.dumps({"expression": expression, "$json": item, "$binary": binary or {}})
    done = subprocess.run(
        ["node", "-e", EVALUATE], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def seen_by_webhook(request: Request) -> dict[str, Any]:
    """Give what a Webhook node with JWT Auth makes of a request (n8n 2.41.1)."""
    token = request.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, N8N_SECRET, algorithms=["HS256"], audience="n8n")
    return {
        "headers": dict(request.headers),
        "params": {},
        "query": {},
        "body": request.json,
        "webhookUrl": "http://n8n.example/webhook/chatcore",
        "executionMode": "production",
        "jwtPayload": claims,
    }


@pytest.fixture(scope="module")
def asked() -> Request:
    """Give a real request to n8n with all that a message may have."""
    environment = {"ALLOWED_ORIGINS": SITE, "ACCEPT_HISTORY": "true", "IDENTITY_SECRET_KEY": IDENTITY_SECRET}
    identity = {"sub": "42", "name": "Ada", "email": "ada@shop.example", "exp": int(time.time()) + 60}
    vouched = {"identity_token": jwt.encode(identity, IDENTITY_SECRET, algorithm="HS256")}
    message: dict[str, Any] = {"message": "Hi", "metadata": {"plan": "pro"}, "page_url": f"{SITE}/cart"}
    message["history"] = [{"role": "user", "content": "before"}]
    with (
        ScriptedN8n() as n8n,
        ChatServer({"N8N_WEBHOOK_URL": n8n.url, **environment}) as server,
        httpx.Client(base_url=server.url, headers={"Origin": SITE}, timeout=30, trust_env=False) as client,
    ):
        token = client.post("/api/v1/session", json=vouched).json()["token"]
        answer = client.post("/api/v1/chat", json=message, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        return n8n.requests[0]


def test_there_are_three() -> None:
    assert FILES == ["chat-trigger-agent.json", "webhook-agent-streaming.json", "webhook-respond.json"]


@pytest.mark.parametrize("file", FILES)
def test_a_workflow_is_whole_and_not_active(file: str) -> None:
    read = workflow(file)
    assert set(read) == {"id", "name", "nodes", "connections", "settings", "active", "pinData"}
    assert (read["active"], read["pinData"], read["settings"]["executionOrder"]) == (False, {}, "v1")
    assert read["name"].startswith("chatcore: ")
    assert read["id"] == "chatcore-" + file.removesuffix(".json"), "n8n's command imports nothing without an id"
    names = [one["name"] for one in read["nodes"]]
    ids = [one["id"] for one in read["nodes"]]
    assert len(set(names)) == len(names)
    assert len({uuid.UUID(one) for one in ids}) == len(ids)
    outputs = [output for kinds in read["connections"].values() for lists in kinds.values() for output in lists]
    targets = {end["node"] for output in outputs for end in output}
    notes = {one["name"] for one in read["nodes"] if one["type"].endswith(".stickyNote")}
    assert {*read["connections"], *targets} == {*names} - notes, "a node that nothing leads to or from"


@pytest.mark.parametrize("file", FILES)
def test_the_nodes_are_those_that_n8n_has(file: str) -> None:
    for one in workflow(file)["nodes"]:
        assert NODES[one["type"]] == one["typeVersion"], one["name"]


@pytest.mark.parametrize("file", FILES)
def test_no_credential_travels_with_a_workflow(file: str) -> None:
    assert not [one["name"] for one in workflow(file)["nodes"] if "credentials" in one]
    words = " ".join(texts(workflow(file)))
    assert not re.search(r"sk-|eyJ|[0-9a-f]{40}|apiKey|instanceId", words)


@pytest.mark.parametrize("file", ["webhook-agent-streaming.json", "webhook-respond.json"])
def test_a_webhook_asks_for_our_token(file: str) -> None:
    webhook = node(file, "webhook")
    assert (webhook["httpMethod"], webhook["authentication"]) == ("POST", "jwtAuth")
    assert re.fullmatch(r"[a-z-]+", webhook["path"])
    assert webhook["options"] == {"binaryPropertyName": "files"}
    assert f"/webhook/{webhook['path']}" in GUIDE


def test_each_trigger_answers_in_the_way_that_its_last_node_can() -> None:
    assert node("webhook-agent-streaming.json", "webhook")["responseMode"] == "streaming"
    assert node("webhook-respond.json", "webhook")["responseMode"] == "responseNode"
    chat = node("chat-trigger-agent.json", "chatTrigger")
    assert (chat["public"], chat["mode"], chat["authentication"]) == (True, "webhook", "basicAuth")
    assert chat["options"]["responseMode"] == "streaming"
    for file in ("webhook-agent-streaming.json", "chat-trigger-agent.json"):
        assert node(file, "agent")["options"]["enableStreaming"] is True


@pytest.mark.parametrize("file", FILES)
def test_expressions_refer_to_what_our_requests_have(file: str, asked: Request) -> None:
    item = asked.json if file.startswith("chat-trigger") else seen_by_webhook(asked)
    assert expressions(file)
    for expression in expressions(file):
        for path in re.findall(r"\$json((?:\??\.\w+)+)", expression):
            value = item
            for member in re.findall(r"\w+", path):
                assert member in value, f"{path} in {expression}"
                value = value[member]


def test_the_agent_s_memory_and_prompt_are_this_session_s(asked: Request) -> None:
    item = seen_by_webhook(asked)
    session = asked.json["sessionId"]
    for file, given in (("webhook-agent-streaming.json", item), ("chat-trigger-agent.json", asked.json)):
        prompt, key = node(file, "agent")["text"], node(file, "memoryBufferWindow")["sessionKey"]
        assert evaluate(prompt[3:-2], given) == "Hi"
        assert evaluate(key[3:-2], given) == session


def test_the_guard_lets_only_the_token_s_own_session_through(asked: Request) -> None:
    conditions = node("webhook-agent-streaming.json", "if")["conditions"]
    assert conditions["combinator"] == "and"

    def passes(item: dict[str, Any]) -> bool:
        sides = [
            [
                evaluate(side[3:-2], item) if side.startswith("=") else side
                for side in (one["leftValue"], one["rightValue"])
            ]
            for one in conditions["conditions"]
        ]
        return all(left == right for left, right in sides)

    item = seen_by_webhook(asked)
    assert passes(item)
    assert not passes({**item, "body": {**item["body"], "sessionId": "s_another"}})
    assert not passes({**item, "body": {**item["body"], "action": "loadPreviousSession"}})
    assert not passes({**item, "jwtPayload": {**item["jwtPayload"], "aud": "elsewhere"}})
    connections = workflow("webhook-agent-streaming.json")["connections"]
    (agent,), (refuse,) = connections["Check the token"]["main"]
    assert (agent["node"], refuse["node"]) == ("AI Agent", "Refuse")


@pytest.mark.parametrize("files", [0, 2])
async def test_the_answering_workflow_s_text_reaches_the_visitor(
    files: int, n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    expression = node("webhook-respond.json", "respondToWebhook")["responseBody"]
    binary = {f"files{number}": {"fileName": "a.txt"} for number in range(files)}

    def respond(request: Request) -> Answer:
        return answer_json(evaluate(expression[3:-2], seen_by_webhook(request), binary))

    n8n.answer(respond)
    client = make_client(start_server(n8n))
    await client.session()
    content = (await client.chat("Hi")).json()["content"]
    assert content.splitlines()[::2] == [
        "You wrote: Hi",
        f"Session: {client.session_id}",
        "User: not known",
        f"Files: {files}",
    ]


def test_the_answering_workflow_knows_the_user_in_json_and_in_form_data(asked: Request) -> None:
    expression = node("webhook-respond.json", "respondToWebhook")["responseBody"][3:-2]
    item = seen_by_webhook(asked)
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in item["body"].items()}
    for body in (item["body"], form):
        assert "User: Ada" in evaluate(expression, {**item, "body": body})["output"]


@pytest.mark.parametrize("file", FILES)
def test_the_guide_describes_each_file(file: str) -> None:
    assert f"(../deploy/n8n/{file})" in GUIDE
