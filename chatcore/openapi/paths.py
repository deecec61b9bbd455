"""Paths of the description: every route with its methods, parameters, bodies, answers and refusals."""

from typing import Any

from chatcore import errors as kinds
from chatcore.openapi.admin_paths import admin_paths
from chatcore.openapi.chat_paths import chat_paths
from chatcore.openapi.drop_in_paths import drop_in_paths
from chatcore.openapi.openai_paths import openai_paths
from chatcore.openapi.responses import CHECKED_ORIGIN, EVERYWHERE, LIMITS, answer, errors, json, schema
from chatcore.openapi.schemas import SESSION_ID, TOKEN
from chatcore.settings import Settings

_BEARER: list[dict[str, list[str]]] = [{"session": []}]
_TOKEN = (kinds.TOKEN_MISSING, kinds.TOKEN_INVALID, kinds.TOKEN_EXPIRED)
_BODY = (kinds.INVALID_JSON, kinds.BODY_TOO_LARGE, kinds.UNSUPPORTED_MEDIA_TYPE)
_COUNTED = (kinds.RATE_LIMITED, kinds.STORE_UNAVAILABLE)
_TIMES = {"issued_at": "2026-01-31T09:30:00Z", "expires_at": "2026-02-01T09:30:00Z"}


def paths(settings: Settings) -> dict[str, Any]:
    """Give every path and what may be asked of it."""
    described = {
        **_session_paths(settings),
        **chat_paths(settings),
        **drop_in_paths(settings),
        **_watch_paths(settings),
        **admin_paths(settings),
        **openai_paths(settings),
        **_page_paths(),
    }
    if not settings.operations.demo_page:
        del described["/"]
    if not settings.has_admin_page:
        del described["/admin"]
    for methods in described.values():
        for operation in methods.values():
            operation.setdefault("parameters", []).append(_REQUEST_ID)
    return described


_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "An id for logs; one is made where this is absent or not 1 to 64 of `[A-Za-z0-9._-]`.",
    "schema": {"type": "string"},
    "example": "shop-42",
}


def _session_paths(settings: Settings) -> dict[str, Any]:
    example = {"session_id": SESSION_ID, "token": TOKEN, **_TIMES, "expires_in_seconds": 86400}
    example["features"] = {"history": False, "resume": True, "uploads": settings.uploads.told}
    created = json("Session", example)
    body = {"application/json": {"schema": schema("SessionRequest"), "example": {"page_url": "https://example.com/"}}}
    create = {
        "operationId": "createSession",
        "tags": ["sessions"],
        "summary": "Start a session",
        "requestBody": {"required": False, "content": body},
        "responses": {
            "201": answer("The session and its token.", created, "Cache-Control", *LIMITS),
            **errors((*CHECKED_ORIGIN, *_BODY, *_COUNTED, kinds.CHALLENGE_FAILED, kinds.IDENTITY_INVALID)),
        },
    }
    show = {
        "operationId": "showSession",
        "tags": ["sessions"],
        "summary": "Tell how long the token is valid",
        "security": _BEARER,
        "responses": {
            "200": answer("It is valid.", json("SessionShown", {"session_id": SESSION_ID, **_TIMES}), "Cache-Control"),
            **errors((*CHECKED_ORIGIN, *_TOKEN, kinds.STORE_UNAVAILABLE)),
        },
    }
    erase = {
        "operationId": "eraseSession",
        "tags": ["sessions"],
        "summary": "Stop the session's replies and forget what is kept of it",
        "description": "Stateless mode keeps nothing of sessions, so it cannot revoke the token.",
        "security": _BEARER,
        "responses": {
            "204": answer("Nothing is kept of it any more.", None, "Cache-Control"),
            **errors((*CHECKED_ORIGIN, *_TOKEN, kinds.STORE_UNAVAILABLE)),
        },
    }
    refresh = {
        "operationId": "refreshSession",
        "tags": ["sessions"],
        "summary": "Get a fresh token for the same session",
        "description": "Also with a token that expired a while ago.",
        "security": _BEARER,
        "responses": {
            "200": answer("The same session, a new token.", created, "Cache-Control", *LIMITS),
            **errors((*CHECKED_ORIGIN, *_TOKEN, *_COUNTED)),
        },
    }
    return {
        "/api/v1/session": {"post": create, "get": show, "delete": erase},
        "/api/v1/session/refresh": {"post": refresh},
    }


def _watch_paths(settings: Settings) -> dict[str, Any]:
    health = {
        "operationId": "health",
        "tags": ["operations"],
        "summary": "The server's state and that of its parts",
        "description": "200 for `ok` and `degraded`; 503 where new messages are refused.",
        "responses": {
            "200": answer("Messages are served.", json("Health"), "Cache-Control"),
            "503": answer("New messages are refused.", json("Health"), "Cache-Control"),
            **errors(EVERYWHERE),
        },
    }
    live = {
        "operationId": "live",
        "tags": ["operations"],
        "summary": "Whether the process serves at all",
        "responses": {"200": answer("It does.", json("Alive"), "Cache-Control"), **errors(EVERYWHERE)},
    }
    ready = {
        "operationId": "ready",
        "tags": ["operations"],
        "summary": "Whether to send new visitors here",
        "responses": {
            "200": answer("Send them.", json("Readiness"), "Cache-Control"),
            "503": answer("Shutting down, or refusing new messages.", json("Readiness"), "Cache-Control"),
            **errors(EVERYWHERE),
        },
    }
    metrics: dict[str, Any] = {
        "operationId": "metrics",
        "tags": ["operations"],
        "summary": "Figures for Prometheus",
        "responses": {
            "200": answer("Families begin with `chatcore_`.", _text("text/plain"), "Cache-Control"),
            **errors(EVERYWHERE),
        },
    }
    if settings.operations.metrics_token is not None:
        metrics["security"] = [{"metrics": []}]
        metrics["responses"] |= errors((kinds.TOKEN_MISSING, kinds.TOKEN_INVALID))
    return {
        "/health": {"get": health},
        "/health/live": {"get": live},
        "/health/ready": {"get": ready},
        "/metrics": {"get": metrics},
    }


def _page_paths() -> dict[str, Any]:
    known = {"description": "The client has this content already."}
    asked = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}, "description": "Known `ETag`s."}

    def page(name: str, summary: str, shown: str) -> dict[str, Any]:
        headers = ("Content-Security-Policy", "ETag", "Vary", "Cache-Control")
        return {
            "operationId": name,
            "tags": ["pages"],
            "summary": summary,
            "parameters": [asked],
            "responses": {
                "200": answer(shown, _text("text/html"), *headers),
                "304": known,
                **errors(CHECKED_ORIGIN),
            },
        }

    file = {
        "operationId": "browserModule",
        "tags": ["pages"],
        "summary": "A browser module or what belongs to one",
        "description": "Below `/widget/<version>/` contents never change and may be kept for ever.",
        "parameters": [
            {
                "name": "file",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "The file's name, or version and name: `demo.js`, `<version>/demo.js`.",
                "example": "demo.js",
            },
            asked,
        ],
        "responses": {
            "200": answer(
                "The file.",
                {**_text("text/javascript"), **_text("text/css"), **_text("image/svg+xml")},
                *("ETag", "Vary", "Cache-Control", "Access-Control-Allow-Origin"),
            ),
            "304": known,
            **errors((*EVERYWHERE, kinds.NOT_FOUND)),
        },
    }
    description = {
        "operationId": "description",
        "tags": ["pages"],
        "summary": "This description",
        "parameters": [asked],
        "responses": {
            "200": answer(
                "OpenAPI 3.1.",
                {"application/json": {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}},
                *("ETag", "Vary", "Cache-Control", "Access-Control-Allow-Origin"),
            ),
            "304": known,
            **errors(EVERYWHERE),
        },
    }
    return {
        "/": {"get": page("page", "The demo page", "A chat with this server.")},
        "/admin": {"get": page("adminPage", "The operators' page", "A page without data, which asks for a token.")},
        "/widget/{file}": {"get": file},
        "/openapi.json": {"get": description},
    }


def _text(media_type: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string"}}}
