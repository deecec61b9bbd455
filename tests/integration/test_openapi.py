"""The description names the routes of the application, all of them and no others, and anybody may read it."""

import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from chatcore import openapi
from chatcore.app import Application
from chatcore.clock import SystemClock
from chatcore.observe import Observer
from chatcore.settings import Settings
from chatcore.stores import stateless
from tests.support.server import ChatServer
from tests.support.settings import settings_with


def _served(settings: Settings) -> Mapping[str, set[str]]:
    """Give path templates and methods as the application's router has them."""
    observer, clock = Observer(settings.log), SystemClock()
    try:
        stores = stateless.open_stores(settings, clock, observer)
        routes = Application(settings, stores, clock, observer)._router.routes  # noqa: SLF001 - the table is the truth
    finally:
        observer.close()
    table: dict[str, set[str]] = {}
    for route in routes:
        methods: Any = route.endpoint  # type: ignore[attr-defined]  # every one of our routes has it
        table[re.sub(r":\w+}", "}", route.path)] = set(methods._handlers) - {"HEAD"}  # type: ignore[attr-defined]  # noqa: SLF001 - same
    return table


@pytest.mark.parametrize("operations", [{}, {"demo_page": False}, {"openai_api_keys": {"program": "o" * 32}}])
async def test_it_describes_every_route_and_method_and_no_other(operations: dict[str, Any]) -> None:
    settings = settings_with(operations=operations)
    described = openapi.document(settings)["paths"]
    assert {path: {method.upper() for method in methods} for path, methods in described.items()} == _served(settings)


def test_anybody_may_read_it(server: ChatServer) -> None:
    answer = httpx.get(f"{server.url}/openapi.json", headers={"Origin": "https://elsewhere.test"}, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["openapi"] == "3.1.0"
