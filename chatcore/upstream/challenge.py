"""Whether a visitor passed the site's challenge: one question to a `siteverify` endpoint (Turnstile and its like)."""

from urllib.parse import urlencode

import msgspec

from chatcore.settings import ChallengeSettings
from chatcore.upstream.transport import Transport, ask

ANSWER_BYTES = 65_536


async def passes(transport: Transport, challenge: ChallengeSettings, token: str, address: str) -> bool | None:
    """Ask about a visitor's answer; None when the endpoint gives no usable one. The caller limits the time."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    form = urlencode({"secret": challenge.secret, "response": token, "remoteip": address})
    answer = await ask(transport.to(challenge.verify_url, headers), {}, form.encode(), ANSWER_BYTES)
    if answer is None:
        return None
    try:
        verdict = msgspec.json.decode(answer[1])
    except msgspec.DecodeError:
        return None
    success = verdict.get("success") if isinstance(verdict, dict) else None
    return success if isinstance(success, bool) else None
