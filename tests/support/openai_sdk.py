"""Programs that speak OpenAI's API: the real SDK, pointed at a server of the tests."""

from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.support.server import ChatServer

KEY = "sk-of-the-tests-0123456789abcdef0123456789abcdef"
OTHER = "sk-of-others-0123456789abcdef0123456789abcdefghi"
KEYS = {"OPENAI_API_KEYS": f"tests:{KEY},{OTHER}"}
"""Two programs, one with a name and one without."""


def program(server: ChatServer, key: str = KEY, **options: Any) -> AsyncOpenAI:
    """Give a client of the SDK that does not try again by itself, unless `max_retries` says so."""
    wanted: dict[str, Any] = {"max_retries": 0, "timeout": 60.0, **options}
    client = DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, http_client=client, **wanted)
