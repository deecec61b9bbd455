"""A real Prometheus with the example configuration before all three modes: all questions are answered, faults fire."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from tests.support import sources
from tests.support.answers import cut
from tests.support.background import eventually
from tests.support.client import ChatClient
from tests.support.databases import PostgresServer, RedisServer
from tests.support.n8n import ScriptedN8n
from tests.support.prometheus import Prometheus, promtool
from tests.support.server import ChatServer

FOLDER = sources.ROOT / "deploy" / "monitoring"
TOKEN = "a-token-for-the-one-who-collects"
WITHIN = 30.0


@dataclass
class Watched:
    """Prometheus and what it watches."""

    prometheus: Prometheus
    servers: dict[str, ChatServer]
    n8n: ScriptedN8n
    postgres: PostgresServer
    redis: RedisServer

    def instance(self, mode: str) -> str:
        """The label that Prometheus gives a mode's server."""
        return f"127.0.0.1:{self.servers[mode].port}"

    async def fires(self, alert: str, instances: set[str] | None = None) -> None:
        """Wait until an alert fires, for exactly these instances."""

        def so() -> bool:
            found = self.prometheus.firing().get(alert, [])
            return bool(found) and (instances is None or {one["labels"]["instance"] for one in found} == instances)

        await self.until(so)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. The test fails with what fires where it does not come."""
        try:
            await eventually(condition, WITHIN)
        except TimeoutError:
            pytest.fail(f"it did not come within {WITHIN} s; firing: {self.prometheus.firing()}")


def _with(text: str, *pairs: tuple[str, str]) -> str:
    for written, put in pairs:
        assert written in text, written
        text = text.replace(written, put)
    return text


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """Start everything: three modes, one of them with two workers, and Prometheus with the files of `deploy`."""
    with ExitStack() as stack:
        n8n = stack.enter_context(ScriptedN8n())
        postgres = stack.enter_context(PostgresServer())
        postgres.start()
        redis = stack.enter_context(RedisServer())
        redis.start()
        database = postgres.new_database()
        common = {
            "N8N_WEBHOOK_URL": n8n.url,
            "METRICS_TOKEN": TOKEN,
            "ADMIN_TOKEN": "the-token-of-the-only-operator-01",
            "OPENAI_API_KEYS": "the-key-of-the-only-program-here1",
        }
        stores = {
            "DATABASE_URL": database.url,
            "DATABASE_ADMIN_URL": database.admin_url,
            "REDIS_URL": redis.url,
            "AUDIT_KEY": "tests-sign-the-audit-log-with-these!",
        }
        servers = {
            "stateless": stack.enter_context(ChatServer(common, wait=False)),
            "sqlite": stack.enter_context(ChatServer(common, main="main_sqlite.py", wait=False)),
            "postgres": stack.enter_context(
                ChatServer(common | stores, main="main_postgres.py", options=("--workers", "2"), wait=False)
            ),
        }
        for server in servers.values():
            server.wait_until_serving()
        targets = "\n".join(f"          - 127.0.0.1:{server.port}" for server in servers.values())
        configuration = _with(
            (FOLDER / "prometheus.yml").read_text("utf-8"),
            ("scrape_interval: 15s", "scrape_interval: 250ms\n  scrape_timeout: 250ms"),
            ("evaluation_interval: 15s", "evaluation_interval: 250ms"),
            ("          - 127.0.0.1:8001\n          - 127.0.0.1:8002", targets),
        )
        rules = re.sub(r"(?m)^ +for: \w+\n", "", (FOLDER / "alerts.yml").read_text("utf-8"))
        files = {"prometheus.yml": configuration, "alerts.yml": rules, "metrics-token": f"{TOKEN}\n"}
        prometheus = stack.enter_context(Prometheus(files))
        prometheus.start()
        yield Watched(prometheus, servers, n8n, postgres, redis)


async def _chat_a_little(watched: Watched) -> None:
    """Let something happen of each kind that visitors and others cause."""
    for server in watched.servers.values():
        async with ChatClient(server.url) as visitor:
            await visitor.session()
            message_id = str(uuid.uuid4())
            for _ in range(2):
                assert (await visitor.chat("Hi", message_id=message_id)).status_code == 200
            for _ in range(18):
                await visitor.reply("Hi")
            bearer = {"Authorization": f"Bearer {visitor.token}"}
            rated = f"/api/v1/chat/{message_id}/feedback"
            assert (await visitor.http.post(rated, json={"rating": "up"}, headers=bearer)).status_code == 204
            watched.n8n.next(cut("some text"))
            await visitor.reply("Hi")
            wrong = {"Authorization": "Bearer wrong"}
            assert (await visitor.http.get("/api/v1/admin/analytics", headers=wrong)).status_code in {401, 404}
            assert (await visitor.http.get("/nothing")).status_code == 404


async def test_every_question_of_dashboard_and_alerts_has_an_answer(watched: Watched) -> None:
    prometheus = watched.prometheus
    await watched.until(lambda: prometheus.targets_up() == len(watched.servers))
    await _chat_a_little(watched)
    await watched.until(lambda: sum(value for _, value in prometheus.query("chatcore_messages_total")) == 60)
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
    expressions = {
        re.sub(r"\$(job|instance|bot)\b", ".*", target["expr"]).replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    await watched.until(lambda: not [one for one in expressions if not prometheus.query(one)])
    for variable in dashboard["templating"]["list"][1:]:
        metric = re.match(r"label_values\((\w+)", variable["definition"])
        assert metric is not None
        assert prometheus.query(f"count by ({variable['name']}) ({metric[1]}) > 0")
    rules = prometheus.rules()
    assert len(rules) == (FOLDER / "alerts.yml").read_text("utf-8").count("- alert:")
    for rule in rules:
        assert rule["health"] == "ok", rule
        for name in set(re.findall(r"\bchatcore_\w+", rule["query"])):
            assert prometheus.query(name), f"{rule['name']} asks for {name}, which nobody exports"
    for name in ("chatcore_crashes_total", "chatcore_refusals_total", "chatcore_reply_errors_total"):
        assert len(prometheus.query(f"count by (instance) ({name})")) == len(watched.servers), (
            "not at zero from the start"
        )


@pytest.mark.parametrize("mode", ["stateless", "sqlite", "postgres"])
def test_promtool_takes_the_metrics(watched: Watched, mode: str) -> None:
    url = f"{watched.servers[mode].url}/metrics"
    text = httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False).raise_for_status().text
    status, said = promtool("check", "metrics", reads=text)
    assert status == 0, said


async def test_faults_fire_their_alerts_and_those_alone(watched: Watched) -> None:
    prometheus = watched.prometheus
    await watched.until(lambda: prometheus.targets_up() == len(watched.servers))
    assert prometheus.firing() == {}

    async with ChatClient(watched.servers["stateless"].url) as visitor:
        await visitor.session()
        watched.n8n.refuse()
        watched.n8n.disconnect()
        for _ in range(6):
            await visitor.chat("Hi")
        await watched.fires("ChatcoreN8nUnreachable", {watched.instance("stateless")})
        watched.n8n.listen()
        await watched.until(lambda: "ChatcoreN8nUnreachable" not in prometheus.firing())

    watched.redis.kill()
    await watched.fires("ChatcoreRedisDown", {watched.instance("postgres")})
    watched.postgres.kill()
    async with ChatClient(watched.servers["postgres"].url) as visitor:
        await visitor.session()
        assert (await visitor.chat("Hi")).status_code == 200
        await watched.fires("ChatcoreStoreDegraded", {watched.instance("postgres")})
    assert set(prometheus.firing()) <= {"ChatcoreRedisDown", "ChatcoreStoreDegraded", "ChatcoreRepliesFail"}
    assert "ChatcoreMessagesLost" not in prometheus.firing()

    watched.servers["stateless"].kill()
    await watched.fires("ChatcoreInstanceDown", {watched.instance("stateless")})
    assert "ChatcoreDown" not in prometheus.firing()
    for server in watched.servers.values():
        server.kill()
    await watched.fires("ChatcoreDown")
    said = [one["annotations"] for alerts in prometheus.firing().values() for one in alerts]
    assert not [text for texts in said for text in texts.values() if "<" in text or "{{" in text], said
