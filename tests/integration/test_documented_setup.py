"""What README and docs say to set chatcore up by is typed as it is written, and serves what they promise."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import jwts
from tests.support.client import NO_TLS
from tests.support.documented import Place, commands, fenced
from tests.support.n8n import ScriptedN8n, published
from tests.support.ports import free_port

WEBHOOK = "https://n8n.example.com/webhook/chat"
SITE = "https://www.example.com"


@pytest.fixture(name="n8n")
def _n8n(n8n: ScriptedN8n) -> ScriptedN8n:
    n8n.answer(published)
    return n8n


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Place:
    return Place(tmp_path, {"API_PORT": str(free_port())})


@pytest.fixture
def visitor(place: Place) -> Iterator[httpx.Client]:
    """Give a visitor of what is served in `place`."""
    address = f"http://127.0.0.1:{place.environment['API_PORT']}"
    with httpx.Client(base_url=address, trust_env=False, verify=NO_TLS, timeout=30.0) as client:
        yield client


def until_serving(client: httpx.Client, place: Place) -> None:
    """Wait until the server of `place` answers."""
    began = time.monotonic()
    while True:
        try:
            client.get("/health/live").raise_for_status()
        except httpx.TransportError:
            assert time.monotonic() - began < 60, (place.folder / "log").read_text("utf-8", "replace")
            time.sleep(0.05)
        else:
            return


def chat(client: httpx.Client, origin: str = SITE, **members: str) -> str:
    """Say something as a page of `origin`; gives the reply."""
    from_page = {"Origin": origin}
    token = client.post("/api/v1/session", json=members, headers=from_page).json()["token"]
    bearer = {**from_page, "Authorization": f"Bearer {token}"}
    reply = client.post("/api/v1/chat", json={"message": "Hi"}, headers=bearer)
    assert reply.headers["access-control-allow-origin"] == origin
    return str(reply.json()["content"])


def findings(printed: str) -> set[str]:
    """Give the states of what `check` looked at."""
    return {line.split()[0] for line in printed.splitlines()}


def test_the_readme_leads_from_the_webhook_to_a_checked_server(
    place: Place, n8n: ScriptedN8n, visitor: httpx.Client
) -> None:
    (place.folder / ".env").unlink(missing_ok=True)
    with place.running(commands("README.md", "With your n8n", 0), {WEBHOOK: n8n.url}):
        until_serving(visitor, place)
        assert chat(visitor) == "Echo: Hi"
        assert visitor.post("/api/v1/session", headers={"Origin": "https://elsewhere.example"}).status_code == 403
        token = visitor.post("/api/v1/session").json()["token"]
    (place.folder / ".env").write_text(f"N8N_WEBHOOK_URL={n8n.url}\nALLOWED_ORIGINS={SITE}\n")
    place.run(commands("README.md", "With your n8n", 1))
    assert findings(place.run(commands("README.md", "With your n8n", 2))) == {"ok"}
    with place.running(".venv/bin/python main_stateless.py"):
        until_serving(visitor, place)
        assert chat(visitor) == "Echo: Hi"
        refused = visitor.get("/api/v1/session", headers={"Authorization": f"Bearer {token}"})
        assert refused.json()["code"] == "token_invalid", "the first run's secret was random"
        lasting = {"Authorization": f"Bearer {visitor.post('/api/v1/session').json()['token']}"}
    with place.running(".venv/bin/python main_stateless.py"):
        until_serving(visitor, place)
        assert visitor.get("/api/v1/session", headers=lasting).status_code == 200


def test_a_secret_is_made_as_the_settings_say(place: Place) -> None:
    first, second = (place.run(commands("docs/settings.md", "Sessions and secrets")) for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{64}\n", first)
    assert first != second


def test_the_file_that_deployment_makes_is_private_and_passes_its_check(place: Place, n8n: ScriptedN8n) -> None:
    printed = place.run(commands("docs/deployment.md", "Before the first start"), {WEBHOOK: n8n.url})
    assert findings(printed) == {"ok"}
    assert (place.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert [request.method for request in n8n.requests] == ["OPTIONS"], "no workflow has run"


def test_a_workflow_gets_tokens_made_with_the_secret_that_was_typed(
    place: Place, n8n: ScriptedN8n, visitor: httpx.Client
) -> None:
    secret = "the-secret-just-made-by-openssl-for-this-test"
    instead = {"https://n8n.example.com/webhook/chatcore-respond": n8n.url, "the-secret-just-made": secret}
    with place.running(commands("docs/n8n.md", "It answers: webhook-respond.json"), instead):
        until_serving(visitor, place)
        assert chat(visitor, str(visitor.base_url)) == "Echo: Hi"
    asked, message = n8n.requests
    assert (asked.method, message.method) == ("OPTIONS", "POST")
    token = message.headers["authorization"].removeprefix("Bearer ")
    assert token == jwts.forge(jwts.read(token), secret, jwts.read(token, 0))
    assert jwts.read(token)["sub"] == message.json["sessionId"]


def test_each_bot_has_its_workflow_its_websites_and_its_key(
    place: Place, n8n: ScriptedN8n, visitor: httpx.Client
) -> None:
    settings = fenced("docs/bots.md", "Several bots", "ini")
    shop, desk = n8n.url.replace("/chat", "/shop"), n8n.url.replace("/chat", "/desk")
    for written, put in (
        ("https://n8n.example.com/webhook/shop", shop),
        ("https://n8n.example.com/webhook/desk", desk),
    ):
        assert written in settings
        settings = settings.replace(written, put)
    (place.folder / ".env").write_text(settings)
    with place.running(".venv/bin/python main_stateless.py"):
        until_serving(visitor, place)
        assert chat(visitor) == "Echo: Hi"
        assert chat(visitor, "https://intranet.example.com", bot="desk") == "Echo: Hi"
        refused = visitor.post("/api/v1/session", json={"bot": "desk"}, headers={"Origin": SITE})
        assert refused.json()["code"] == "origin_not_allowed"
    assert [(one.target, one.headers.get("x-n8n-api-key")) for one in n8n.requests] == [
        ("/webhook/shop", None),
        ("/webhook/desk", "the-key-that-n8n-knows"),
    ]


def test_programs_talk_to_the_workflow_as_to_a_model(place: Place, n8n: ScriptedN8n, visitor: httpx.Client) -> None:
    (place.folder / ".env").write_text(f"N8N_WEBHOOK_URL={n8n.url}\n")
    place.run(commands("docs/openai.md", "OpenAI's API", 0))
    (made,) = re.findall(r"(?m)^OPENAI_API_KEYS=(.*)$", (place.folder / ".env").read_text())
    keys = dict(one.split(":") for one in made.split(","))
    assert keys.keys() == {"webui", "reports"}
    place.environment["KEY"] = keys["webui"]
    address = str(visitor.base_url).rstrip("/")
    with place.running(".venv/bin/python main_stateless.py"):
        until_serving(visitor, place)
        answer = place.run(commands("docs/openai.md", "OpenAI's API", 1), {"http://localhost:8000": address})
        assert '"content":"Echo: Hello"' in answer
        program = fenced("docs/openai.md", "OpenAI's API", "python")
        (place.folder / "program.py").write_text(
            f"import os\nKEY = os.environ['KEY']\n{program.replace('https://chat.example.com', address)}"
        )
        place.environment["KEY"] = keys["reports"]
        assert place.run("python -W error program.py") == "Echo: Hello"
        unknown = visitor.get("/v1/models/gpt-5", headers={"Authorization": f"Bearer {keys['webui']}"})
    shown = fenced("docs/openai.md", "What comes back", "json")
    assert unknown.json() == httpx.Response(404, text=shown).json()
    first, second = (request.json["sessionId"] for request in n8n.requests)
    assert first != second, "programs are apart"


def test_a_site_vouches_for_its_user_by_a_few_lines(place: Place, n8n: ScriptedN8n, visitor: httpx.Client) -> None:
    secret = "a-site-vouches-for-its-users-with-this"
    place.environment |= {"N8N_WEBHOOK_URL": n8n.url, "IDENTITY_SECRET_KEY": secret, "PUBLIC_URL": SITE}
    of_site = fenced("docs/security.md", "Your users", "python")
    (place.folder / "vouch.py").write_text(
        f"import os\nIDENTITY_SECRET_KEY = os.environ['IDENTITY_SECRET_KEY']\n{of_site}\nprint(identity_token)\n"
    )
    of_page = fenced("docs/security.md", "Your users", "js")
    address = str(visitor.base_url).rstrip("/")
    with place.running(".venv/bin/python main_stateless.py"):
        until_serving(visitor, place)
        token = place.run("python vouch.py").strip()
        assert "https://chat.example.com" in of_page
        (place.folder / "page.mjs").write_text(
            f"const identity_token = {token!r}, location = {{ href: 'https://www.example.com/orders?n=1' }};\n"
            f"const answer = {of_page.replace('https://chat.example.com', address)}"
            "console.log((await answer.json()).token);"
        )
        bearer = {"Authorization": f"Bearer {place.run('node page.mjs').strip()}"}
        assert visitor.post("/api/v1/chat", json={"message": "Hi"}, headers=bearer).json()["content"] == "Echo: Hi"
    assert n8n.requests[0].json["context"]["user"] == {"sub": "42", "name": "Ada", "email": "ada@example.com"}
