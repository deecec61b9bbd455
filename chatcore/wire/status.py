"""What the head of n8n's answer decides before its body is read."""

from chatcore.errors import (
    UPSTREAM_ERROR,
    UPSTREAM_INVALID,
    UPSTREAM_NOT_FOUND,
    UPSTREAM_REFUSED,
    UPSTREAM_UNAVAILABLE,
    Kind,
    Refusal,
)
from chatcore.model import Failed

_FILES = ("image/", "audio/", "video/", "font/", "application/pdf", "application/zip")
_STATUSES: dict[int, tuple[Kind, str]] = {
    401: (UPSTREAM_REFUSED, "n8n wants other credentials: compare the Authentication of its Webhook node"),
    403: (UPSTREAM_REFUSED, "n8n rejected the credentials: compare the Authentication of its Webhook node"),
    404: (UPSTREAM_NOT_FOUND, "n8n knows no such webhook: is the workflow active, the path right, the chat public?"),
    413: (
        UPSTREAM_ERROR,
        "the request is too large for n8n (N8N_PAYLOAD_SIZE_MAX; files: N8N_FORMDATA_FILE_SIZE_MAX) or for a gateway",
    ),
    502: (UPSTREAM_UNAVAILABLE, "a gateway before n8n does not reach it"),
    503: (UPSTREAM_UNAVAILABLE, "n8n or a gateway before it is not available"),
    504: (UPSTREAM_UNAVAILABLE, "a gateway before n8n gave up waiting"),
}


def status_failure(status: int, content_type: str | None) -> Failed | None:
    """Tell how a reply with this head fails, None where its body is to be decoded (n8n 2.41).

    A 404 in HTML is not n8n's own word on a webhook: it is still starting, or a gateway answers in its place.
    """
    media_type = media_type_of(content_type)
    if status // 100 == 2:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
        if media_type.startswith(_FILES):
            return Failed(Refusal(UPSTREAM_INVALID), f"status {status}: the answer is a file, not a text")
        return None
    if status == 404 and media_type in ("text/html", "application/xhtml+xml"):  # noqa: PLR2004 - Not Found, RFC 9110
        return Failed(Refusal(UPSTREAM_UNAVAILABLE), "status 404 in HTML: n8n is starting, or a gateway answered")
    kind, why = _STATUSES.get(status, (UPSTREAM_ERROR, "the workflow failed, or its node chose this status"))
    return Failed(Refusal(kind), f"status {status}: {why}")


def media_type_of(content_type: str | None) -> str:
    """Give the media type in lower case, without parameters; empty where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_json_type(media_type: str) -> bool:
    """Tell whether a body of this type claims to be JSON or lines of it, so that anything else in it is broken."""
    if media_type.endswith("+json"):
        return True
    return media_type in ("application/json", "application/x-ndjson", "application/jsonl", "text/json")
