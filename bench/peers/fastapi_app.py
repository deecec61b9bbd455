"""The same job as most people would write it: FastAPI, one shared httpx client, python-jose, pydantic.

Origin check, a limit per address and per session, the visitor's token, the body's form, a fresh token for n8n, the
webhook call, JSON or server-sent events. No resumption, no retries, no metrics, no recovery: less than chatcore does.
"""

import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from jose import JWTError, jwt
from pydantic import BaseModel, ConfigDict, Field

WEBHOOK = os.environ["N8N_WEBHOOK_URL"]
JWT_SECRET = os.environ["JWT_SECRET_KEY"]
N8N_SECRET = os.environ["SESSION_SECRET_KEY"]
ORIGINS = frozenset(os.environ["ALLOWED_ORIGINS"].split(","))
PER_MINUTE = int(os.environ["RATE_LIMIT_PER_MINUTE"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for all requests. Its default of 100 connections would not carry 1,000 open streams."""
    async with httpx.AsyncClient(
        limits=httpx.Limits(max_connections=4000, max_keepalive_connections=4000, keepalive_expiry=4.0),
        timeout=httpx.Timeout(600, connect=5),
    ) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(CORSMiddleware, allow_origins=list(ORIGINS), allow_methods=["*"], allow_headers=["*"])

_windows: dict[str, tuple[int, int]] = {}


class ChatRequest(BaseModel):
    """The body of a message."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=10_000)
    message_id: uuid.UUID | None = None
    page_url: str | None = None
    metadata: dict[str, Any] | None = None


def allow(key: str) -> None:
    """Refuse more than `PER_MINUTE` in one minute."""
    minute = int(time.monotonic() // 60)
    since, count = _windows.get(key, (minute, 0))
    if since != minute:
        since, count = minute, 0
    if count >= PER_MINUTE:
        raise HTTPException(429, "Too many messages in a short time.")
    _windows[key] = (since, count + 1)


async def check_origin(request: Request) -> None:
    """Refuse pages that may not use this chat."""
    origin = request.headers.get("origin")
    if origin is not None and origin not in ORIGINS:
        raise HTTPException(403, "This website is not allowed to use this chat.")


async def limit_address(request: Request) -> None:
    """Count a request to its address."""
    allow("address " + (request.client.host if request.client else ""))


async def session_of(authorization: Annotated[str | None, Header()] = None) -> str:
    """Give the session of the request's token."""
    if authorization is None or not authorization.lower().startswith("bearer "):
        raise HTTPException(401, "A session token is needed.")
    try:
        claims = jwt.decode(authorization[7:], JWT_SECRET, algorithms=["HS256"], issuer="chatcore")
    except JWTError as error:
        raise HTTPException(401, "The session token is not valid.") from error
    allow("session " + claims["sub"])
    return str(claims["sub"])


@app.get("/health")
async def health() -> dict[str, str]:
    """Tell that the server is up."""
    return {"status": "ok"}


@app.post("/api/v1/session", status_code=201, dependencies=[Depends(check_origin), Depends(limit_address)])
async def create_session() -> dict[str, str]:
    """Issue a token for a new session."""
    now = int(time.time())
    session_id = f"s_{uuid.uuid4().hex[:22]}"
    claims = {"iss": "chatcore", "typ": "session", "sub": session_id, "iat": now, "exp": now + 86400}
    return {"session_id": session_id, "token": jwt.encode(claims, JWT_SECRET, algorithm="HS256")}


@app.post("/api/v1/chat", dependencies=[Depends(check_origin), Depends(limit_address)])
async def chat(request: Request, body: ChatRequest, session_id: Annotated[str, Depends(session_of)]) -> Response:
    """Carry a message to n8n and its reply back."""
    message_id = str(body.message_id or uuid.uuid4())
    now = int(time.time())
    claims = {"iss": "chatcore", "typ": "n8n", "aud": "n8n", "sub": session_id, "jti": message_id}
    token = jwt.encode({**claims, "iat": now, "exp": now + 60}, N8N_SECRET, algorithm="HS256")
    sent = {
        "action": "sendMessage",
        "sessionId": session_id,
        "chatInput": body.message,
        "metadata": body.metadata or {},
        "context": {"message_id": message_id, "origin": request.headers.get("origin"), "received_at": now},
    }
    client: httpx.AsyncClient = request.app.state.client
    headers = {"Authorization": f"Bearer {token}", "X-Session-Token": token, "Accept-Encoding": "identity"}
    started = time.monotonic()
    if "text/event-stream" in request.headers.get("accept", ""):
        stream = _events(client, sent, headers, message_id, session_id, started)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    try:
        answer = await client.post(WEBHOOK, json=sent, headers=headers)
        answer.raise_for_status()
        text = answer.json()["output"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise HTTPException(502, "The assistant could not answer.") from error
    return Response(
        json.dumps(
            {
                "message_id": message_id,
                "session_id": session_id,
                "content": text,
                "finish_reason": "complete",
                "duration_ms": round((time.monotonic() - started) * 1000),
            }
        ),
        media_type="application/json",
    )


async def _events(
    client: httpx.AsyncClient,
    sent: dict[str, Any],
    headers: dict[str, str],
    message_id: str,
    session_id: str,
    started: float,
) -> AsyncIterator[str]:
    number = 1
    yield _event(number, "start", {"message_id": message_id, "session_id": session_id})
    reason = "complete"
    try:
        async with client.stream("POST", WEBHOOK, json=sent, headers=headers) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] == "item":
                    number += 1
                    yield _event(number, "delta", {"content": event["content"]})
    except (httpx.HTTPError, ValueError):
        reason = "error"
    number += 1
    duration_ms = round((time.monotonic() - started) * 1000)
    done = {"message_id": message_id, "finish_reason": reason, "duration_ms": duration_ms}
    yield _event(number, "done", done)


def _event(number: int, name: str, data: dict[str, Any]) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
