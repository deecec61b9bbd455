"""Asks an n8n webhook whether it is there, without running its workflow.

The question is a CORS preflight for a POST: n8n 2.41.1 answers it itself, for every webhook and without credentials,
and names the methods for which an active workflow listens. A GET could run a workflow that listens for GET.
"""

import http.client
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from chatcore.settings import BotSettings

MAX_CLOCK_SECONDS = 30.0
MAX_BODY_BYTES = 65536
_HTTPS_PORT, _HTTP_PORT = 443, 80

# The most special first: all but the last are kinds of OSError.
_UNREACHABLE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (ssl.SSLError, "does not speak TLS as https:// needs it. Is it http://, or another port?"),
    (socket.gaierror, "has a host name that cannot be resolved. Is it written right, and known inside this container?"),
    (
        ConnectionRefusedError,
        "refuses the connection. Is n8n running there? In a container, localhost is the container itself.",
    ),
    (TimeoutError, "does not answer in time. Is a firewall between, or the port wrong?"),
    (
        (ConnectionError, http.client.HTTPException, ValueError),
        "does not answer in HTTP. Is it https://, or another port?",
    ),
)

State = Literal["ok", "warning", "FAULT"]


class Finding(msgspec.Struct, frozen=True):
    """What one check found: `subject` was looked at, `text` says what is so and what to do about it."""

    state: State
    subject: str
    text: str


class Answer(msgspec.Struct, frozen=True):
    """What of an HTTP answer counts here. `skew`: our clock minus the server's, in seconds, where it told its time."""

    status: int
    content_type: str
    methods: str | None
    body: bytes
    skew: float | None


def ask(bot: BotSettings, seconds: float, now: Callable[[], float]) -> list[Finding]:
    """Ask one bot's webhook; no wait for the network exceeds `seconds`. Never raises for what the network does."""
    subject = f"n8n, bot {bot.name}"
    place = urlsplit(bot.url)
    try:
        answer = _exchange(bot, place, seconds, now)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [Finding("FAULT", subject, f"{_where(place)} {unreachable(error)}")]
    state, text = read(answer)
    return [Finding(state, subject, f"{_where(place)} {text}"), clock(bot, answer.skew)]


def clock(bot: BotSettings, skew: float | None) -> Finding:
    """Judge the difference of the clocks: n8n refuses a token after its `exp`, to the second."""
    subject = f"clock, bot {bot.name}"
    if skew is None:
        return Finding("warning", subject, "the answer told no time, so the clocks cannot be compared.")
    apart = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} this machine's"
    if abs(skew) <= MAX_CLOCK_SECONDS:
        return Finding("ok", subject, f"agrees with n8n's to {abs(skew):.0f} s.")
    advice = "n8n would refuse tokens that are valid for a minute. Set both clocks by NTP."
    return Finding("FAULT", subject, f"n8n's clock is {apart}; {advice}")


def read(answer: Answer) -> tuple[State, str]:
    """Say what an answer to the preflight means (as n8n 2.41.1 was seen to answer: 204, 404, 500)."""
    status, said = answer.status, f"answers with status {answer.status}"
    methods = {method.strip().upper() for method in (answer.methods or "").split(",")}
    verdict: tuple[State, str] = ("warning", f"{said}; whether the workflow is active shows only with a message.")
    if status < http.client.MULTIPLE_CHOICES:
        if "POST" in methods:
            verdict = ("ok", "answers, and an active workflow takes POST.")
        elif answer.methods is not None:
            verdict = ("FAULT", "answers, but no active workflow takes POST there. Activate it; its method is POST.")
        else:
            verdict = ("ok", f"{said}; whether the workflow is active shows only with a message.")
    elif status < http.client.BAD_REQUEST:
        verdict = ("FAULT", f"{said}, a redirect, and those are never followed. Set the address it leads to.")
    elif status in {http.client.BAD_GATEWAY, http.client.SERVICE_UNAVAILABLE, http.client.GATEWAY_TIMEOUT}:
        verdict = ("FAULT", f"{said}: something before n8n answers, n8n does not. Start n8n, look at its log.")
    elif status == http.client.NOT_FOUND and _is_html(answer):
        advice = "n8n is still starting (wait, and check again), or the path is none of its webhooks'"
        verdict = ("FAULT", f"answers 404 with a page: {advice}: they begin with /webhook/.")
    elif (status == http.client.NOT_FOUND and _is_of_n8n(answer)) or _knows_no_webhook(answer):
        verdict = ("FAULT", "is n8n, but the workflow is not active or the path is wrong. Activate it in n8n.")
    elif status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.PROXY_AUTHENTICATION_REQUIRED}:
        advice = "n8n itself asks for no credentials here, so something before it does"
        verdict = ("warning", f"{said}: {advice}. Make sure that it lets messages pass.")
    return verdict


def _exchange(bot: BotSettings, place: SplitResult, seconds: float, now: Callable[[], float]) -> Answer:
    port = place.port or (_HTTPS_PORT if place.scheme == "https" else _HTTP_PORT)
    connection: http.client.HTTPConnection
    if place.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(place.hostname or "", port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(place.hostname or "", port, timeout=seconds)
    target = f"{place.path}?{place.query}" if place.query else place.path
    try:
        connection.request("OPTIONS", target, headers=_headers(bot, place))
        response = connection.getresponse()
        date = response.getheader("Date")
        return Answer(
            status=response.status,
            content_type=(response.getheader("Content-Type") or "").lower(),
            methods=response.getheader("Access-Control-Allow-Methods"),
            body=response.read(MAX_BODY_BYTES),
            skew=None if date is None else _skew(date, now()),
        )
    finally:
        connection.close()


def _headers(bot: BotSettings, place: SplitResult) -> dict[str, str]:
    headers = {
        "Origin": f"{place.scheme}://{place.netloc}",
        "Access-Control-Request-Method": "POST",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if bot.basic_auth is not None:
        headers["Authorization"] = "Basic " + b64encode(":".join(bot.basic_auth).encode()).decode()
    if bot.api_key is not None:
        headers[bot.api_key_header] = bot.api_key
    return headers


def _skew(date: str, ours: float) -> float | None:
    try:
        return ours - parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _is_html(answer: Answer) -> bool:
    return "html" in answer.content_type or answer.body.lstrip()[:9].lower() == b"<!doctype"


def _is_of_n8n(answer: Answer) -> bool:
    try:
        document: Any = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "webhook" in str(document.get("message")).lower()


def _knows_no_webhook(answer: Answer) -> bool:
    """Tell whether this is what n8n 2.41.1 says to a preflight at a path that no active workflow has: a 500."""
    return answer.status == http.client.INTERNAL_SERVER_ERROR and (answer.methods or "").strip().upper() == "OPTIONS"


def unreachable(error: Exception) -> str:
    """Say why there was no answer, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = getattr(error, "verify_message", "no reason told")
        return f"has a certificate that is not accepted: {reason}. Mend it, or use a name it is made for."
    said = next((said for kind, said in _UNREACHABLE if isinstance(error, kind)), None)
    return said or f"cannot be reached: {getattr(error, 'strerror', None) or 'for no known reason'}."


def _where(place: SplitResult) -> str:
    return f"{place.scheme}://{place.netloc}"
