"""Every refusal a client can meet: its status, its code and the sentence a visitor may read.

One exception, `Refusal`, carries one `Kind` from the closed table below:

    400 invalid_json invalid_request
    401 token_missing token_invalid token_expired
    403 origin_not_allowed challenge_failed identity_invalid
    404 not_found reply_gone not_stored model_not_found
    405 method_not_allowed   408 request_timeout     409 message_id_reused
    413 body_too_large       415 unsupported_media_type   431 headers_too_large
    429 rate_limited daily_limit_reached
    500 internal_error
    502 upstream_error upstream_refused upstream_not_found upstream_invalid upstream_empty reply_too_large
    503 upstream_unavailable overloaded store_unavailable shutting_down
    504 upstream_timeout

Rendered as RFC 9457 `application/problem+json` before a response's status is sent, and as an `error` event after it.
No sentence here names n8n's address, its texts or a secret.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """One way to refuse: HTTP status, stable code, and the default sentence for the visitor."""

    status: int
    code: str
    sentence: str


INVALID_JSON = Kind(400, "invalid_json", "The request body is not valid JSON.")
INVALID_REQUEST = Kind(400, "invalid_request", "The request does not have the expected form.")
TOKEN_MISSING = Kind(401, "token_missing", "A session token is needed: send it as 'Authorization: Bearer <token>'.")
TOKEN_INVALID = Kind(401, "token_invalid", "The session token is not valid. Start a new session.")
TOKEN_EXPIRED = Kind(401, "token_expired", "The session token has expired. Refresh it or start a new session.")
ORIGIN_NOT_ALLOWED = Kind(403, "origin_not_allowed", "This website is not allowed to use this chat.")
CHALLENGE_FAILED = Kind(403, "challenge_failed", "The check that you are human did not succeed. Please try again.")
IDENTITY_INVALID = Kind(403, "identity_invalid", "The identity token of the website is not valid.")
NOT_FOUND = Kind(404, "not_found", "There is nothing at this address.")
REPLY_GONE = Kind(404, "reply_gone", "This reply is no longer available.")
NOT_STORED = Kind(404, "not_stored", "This server does not store this data.")
MODEL_NOT_FOUND = Kind(404, "model_not_found", "There is no model of this name.")
METHOD_NOT_ALLOWED = Kind(405, "method_not_allowed", "This address does not accept this method.")
REQUEST_TIMEOUT = Kind(408, "request_timeout", "The request took too long to arrive.")
MESSAGE_ID_REUSED = Kind(409, "message_id_reused", "This message_id was already used for a different message.")
BODY_TOO_LARGE = Kind(413, "body_too_large", "The request body is too large.")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported_media_type", "Send the body as 'Content-Type: application/json'.")
HEADERS_TOO_LARGE = Kind(431, "headers_too_large", "The request headers are too large.")
RATE_LIMITED = Kind(429, "rate_limited", "Too many messages in a short time. Please wait a moment.")
DAILY_LIMIT_REACHED = Kind(429, "daily_limit_reached", "The limit of messages for today is reached.")
INTERNAL_ERROR = Kind(500, "internal_error", "Something went wrong on our side.")
UPSTREAM_ERROR = Kind(502, "upstream_error", "The assistant could not answer. Please try again.")
UPSTREAM_REFUSED = Kind(502, "upstream_refused", "The assistant is not set up correctly.")
UPSTREAM_NOT_FOUND = Kind(502, "upstream_not_found", "The assistant is not switched on.")
UPSTREAM_INVALID = Kind(502, "upstream_invalid", "The assistant's answer could not be read.")
UPSTREAM_EMPTY = Kind(502, "upstream_empty", "The assistant gave no answer.")
REPLY_TOO_LARGE = Kind(502, "reply_too_large", "The assistant's answer is too long.")
UPSTREAM_UNAVAILABLE = Kind(503, "upstream_unavailable", "The assistant cannot be reached right now.")
OVERLOADED = Kind(503, "overloaded", "Too many chats are running right now. Please try again in a moment.")
STORE_UNAVAILABLE = Kind(503, "store_unavailable", "The chat's memory cannot be reached right now. Please try again.")
SHUTTING_DOWN = Kind(503, "shutting_down", "The server is restarting. Please try again in a moment.")
UPSTREAM_TIMEOUT = Kind(504, "upstream_timeout", "The assistant took too long to answer.")

KINDS: Mapping[str, Kind] = {value.code: value for value in list(globals().values()) if isinstance(value, Kind)}


class FieldFault(msgspec.Struct, frozen=True):
    """One thing that is wrong in a body: where (`metadata.plan`, `history[3].role`) and why."""

    field: str
    message: str


class Refusal(Exception):  # noqa: N818 - it is the field's word for a deliberate answer, not a fault of ours
    """A request that is answered with an error of the contract.

    `retry_after` is in whole seconds. `content` is text of the reply that was said before it failed.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str | None = None,
        *,
        errors: Sequence[FieldFault] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        content: str | None = None,
    ) -> None:
        """Refuse with `kind`; `detail` replaces its default sentence."""
        super().__init__(kind.code)
        self.kind = kind
        self.detail = kind.sentence if detail is None else detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.content = content

    def anew(self, content: str | None = None) -> "Refusal":
        """Give the same refusal, with `content` if any, and without the frames of whoever raised this one.

        A refusal that is kept would keep them alive, and raising it again would add to them.
        """
        return Refusal(
            self.kind,
            self.detail,
            errors=self.errors,
            retry_after=self.retry_after,
            headers=self.headers,
            content=content or self.content,
        )

    def __str__(self) -> str:
        return f"{self.kind.status} {self.kind.code}: {self.detail}"


def problem(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """Give the members of the RFC 9457 problem document for `refusal`."""
    kind = refusal.kind
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "code": kind.code,
        "detail": refusal.detail,
        "request_id": request_id,
    }
    if refusal.errors:
        document["errors"] = [{"field": fault.field, "message": fault.message} for fault in refusal.errors]
    if refusal.retry_after is not None:
        document["retry_after"] = refusal.retry_after
    if refusal.content:
        document["content"] = refusal.content
    return document
