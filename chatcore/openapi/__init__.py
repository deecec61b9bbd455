"""The OpenAPI 3.1 description of a running server: every route, header, body, answer and error code of the contract.

Built from the code's own constants and this server's settings, so that it says what this server does.
"""

from typing import Any

from chatcore import __version__
from chatcore.openapi.admin_paths import admin_schemas
from chatcore.openapi.archive_paths import archive_schemas
from chatcore.openapi.drop_in_paths import drop_in_schemas
from chatcore.openapi.openai_paths import openai_schemas
from chatcore.openapi.paths import paths
from chatcore.openapi.responses import HEADERS
from chatcore.openapi.schemas import schemas
from chatcore.settings import Settings

_ABOUT = """\
Carries chats between a website and an n8n webhook.

Make a session with `POST /api/v1/session`, send its token as `Authorization: Bearer <token>`, and send messages with
`POST /api/v1/chat`. Replies come as server-sent events or as one JSON document, as `Accept` asks.

- Every answer that reaches the application has `X-Request-ID`: the caller's, where it is 1 to 64 of `[A-Za-z0-9._-]`.
- Errors are problem documents (RFC 9457) with a stable `code`; see the schema `Problem`.
- Requests with an `Origin` that is neither allowed nor the server's own get 403 `origin_not_allowed`, but for
  `/widget/*`, `/v1/*`, `/health*`, `/metrics` and `/openapi.json`. Preflights are answered with 204.
- What is not HTTP gets a bare 400; 408 and 431 are bare too, and so is 503 where the server takes no more connections.
- `HEAD` is served wherever `GET` is; other methods get 405 `method_not_allowed` with `Allow`, other addresses 404
  `not_found`.
"""
_TAGS = (
    ("sessions", "A session is one visitor's chat; its token is a JWT without personal data."),
    ("chat", "Messages and their replies."),
    ("openai", "OpenAI's API, for programs with a key."),
    ("operations", "For those who run the server, and for their machines."),
    ("pages", "For browsers."),
)


def document(settings: Settings) -> dict[str, Any]:
    """Give the description of the server that `settings` make."""
    public_url = settings.cors.public_url
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chatcore",
            "summary": "A self-hosted chat proxy between a website and an n8n webhook",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_url or "/"}],
        "tags": [{"name": name, "description": said} for name, said in _TAGS],
        "paths": paths(settings),
        "components": {
            "schemas": {
                **schemas(settings),
                **admin_schemas(),
                **archive_schemas(settings),
                **openai_schemas(settings),
                **drop_in_schemas(settings),
            },
            "headers": HEADERS,
            "securitySchemes": {
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The token that `POST /api/v1/session` gave.",
                },
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of `OPENAI_API_KEYS`. Five wrong ones a minute are looked at from an address.",
                },
                "metrics": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`METRICS_TOKEN`, where the operator set one.",
                },
                "admin": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of `ADMIN_TOKENS`. Five wrong ones a minute are looked at from an address.",
                },
            },
        },
    }
