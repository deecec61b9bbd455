"""The rules for secrets: long enough, not copied from a guide, each for one purpose; random ones where none are set."""

import re
from collections.abc import Iterable, Mapping

from chatcore.settings.faults import BadValueError
from chatcore.settings.forms import ADMINS, API_KEYS, BEARER, SECRET, Form
from chatcore.settings.reader import Reader, pasteable
from chatcore.settings.values import ChallengeSettings, OperationsSettings, RandomBytes, TokenSettings

MIN_BYTES = 32
_EXPECTED = f"a random text of at least {MIN_BYTES} bytes that is used for nothing else"

# What deployment guides print in the place of a secret. Separators keep random base64 from matching by chance.
_PLACEHOLDER = re.compile(
    r"your[-_ .]|change[-_ ]?(this|me|it|in)|replace[-_ ]?(this|me|with|in)|placeholder|super[-_ ]?(secret|secure)"
    r"|secret[-_ ]?(key[-_ ]?)?here|^<.*>$|\$\(",
    re.IGNORECASE,
)
_LOST_SESSIONS = (
    "JWT_SECRET_KEY is not set: a random one serves this run. Session tokens end with the process, "
    "so visitors start anew after a restart, and other instances do not know them."
)
_NO_VALIDATION = (
    "SESSION_SECRET_KEY is not set: a random one serves this run. "
    "n8n cannot validate the token it is sent, so a webhook with JWT auth refuses every message."
)


_UNKNOWN_TO_N8N = (
    "SESSION_SECRET_KEY is not set: the one in the file of kept secrets serves. To let n8n validate the token it is "
    "sent, give that to its JWT credential."
)


def _parse_key(text: str) -> str:
    if _PLACEHOLDER.search(text):
        raise BadValueError("is a placeholder from a guide, which everybody knows")
    size = len(text.encode())
    if size < MIN_BYTES:
        raise BadValueError(f"has {size} bytes, too few to withstand guessing")
    return text


KEY = Form(_parse_key, _EXPECTED, "", "nothing", file=True)


def tokens(
    reader: Reader,
    random_bytes: RandomBytes,
    kept: Mapping[str, str] | None,
    *,
    several_bots: bool,
    demo: bool,
    shared: bool = False,
) -> TokenSettings:
    """Read the keys that sign and verify. `kept` are those of earlier runs, None where none are kept.

    With `shared` several processes use them, so that none may be made for one run, not even in a `demo`.
    """
    current, previous = signing(reader)
    session = reader.take("SESSION_SECRET_KEY", KEY, default=None)
    identity = reader.take("IDENTITY_SECRET_KEY", KEY, default=None)
    for name, secret in (("JWT_SECRET_KEY", current), ("SESSION_SECRET_KEY", session)):
        if shared and secret is None and not reader.is_faulty(name):
            reader.refuse(name, "is not set, and all instances need the same", _EXPECTED, pasteable(name))
    if previous is not None and current is None and not reader.is_faulty("JWT_SECRET_KEY"):
        problem = "is set, but JWT_SECRET_KEY is not: there is no key that it precedes"
        reader.refuse("JWT_SECRET_KEY_PREVIOUS", problem, "the former JWT_SECRET_KEY", pasteable("JWT_SECRET_KEY"))
    if current is None and kept is None and not demo and not reader.is_faulty("JWT_SECRET_KEY"):
        reader.warn(_LOST_SESSIONS)
    if session is None and not demo and not reader.is_faulty("SESSION_SECRET_KEY"):
        reader.warn(_NO_VALIDATION if kept is None else _UNKNOWN_TO_N8N)
    kept = kept or {}
    current = current or kept.get("JWT_SECRET_KEY") or random_bytes(MIN_BYTES).hex()
    return TokenSettings(
        jwt_secrets=(current,) if previous is None else (current, previous),
        session_secret=session or kept.get("SESSION_SECRET_KEY") or random_bytes(MIN_BYTES).hex(),
        identity_secret=identity,
        several_bots=several_bots,
    )


def signing(reader: Reader) -> tuple[str | None, str | None]:
    """Read the key that signs session tokens, and the one before it."""
    current = reader.take("JWT_SECRET_KEY", KEY, default=None)
    return current, reader.take("JWT_SECRET_KEY_PREVIOUS", KEY, default=None)


def challenge(reader: Reader, verify_url: str | None) -> ChallengeSettings | None:
    """Read the key of the challenge's provider: it belongs to `verify_url`, and neither is of use alone."""
    secret = reader.take("CHALLENGE_SECRET", SECRET, default=None)
    examples = {
        "CHALLENGE_VERIFY_URL": (verify_url, "https://challenges.cloudflare.com/turnstile/v0/siteverify"),
        "CHALLENGE_SECRET": (secret, "the-secret-of-the-provider's-page"),
    }
    missing = [name for name, (value, _) in examples.items() if value is None]
    if len(missing) == 1 and not reader.is_faulty(missing[0]):
        name, other = missing[0], next(known for known in examples if known != missing[0])
        problem = f"is not set, but {other} is"
        reader.refuse(name, problem, "both of them, or neither", f"{name}={examples[name][1]}")
    return ChallengeSettings(verify_url=verify_url, secret=secret) if verify_url and secret else None


def operations(reader: Reader, *, demo_page: bool) -> OperationsSettings:
    """Read the tokens of operators, and the keys of programs that speak OpenAI's API."""
    metrics = reader.take("METRICS_TOKEN", BEARER, default=None)
    listed = reader.take("ADMIN_TOKENS", ADMINS, default=None)
    admins = {} if listed is None else dict(listed)
    alone = reader.take("ADMIN_TOKEN", BEARER, default=None)
    if alone is not None and "admin" in admins:
        problem = "is named admin, and ADMIN_TOKENS has an admin too"
        reader.refuse("ADMIN_TOKEN", problem, "one token for each name", "ADMIN_TOKENS=admin:…,other:…")
    elif alone is not None:
        admins["admin"] = alone
    of_programs = reader.take("OPENAI_API_KEYS", API_KEYS, default=None) or {}
    named = [("METRICS_TOKEN", metrics), ("ADMIN_TOKEN", alone)]
    named += [(f"ADMIN_TOKENS ({name})", secret) for name, secret in admins.items() if secret != alone]
    named += _of_programs(of_programs)
    for name, secret in named:
        if secret is None:
            continue
        if _PLACEHOLDER.search(secret):
            problem = "is a placeholder from a guide, which everybody knows"
            reader.refuse(name, problem, _EXPECTED, pasteable(name.partition(" ")[0]))
        elif len(secret.encode()) < MIN_BYTES:
            reader.warn(f"{name} has fewer than {MIN_BYTES} bytes and may be guessed. Make one: {pasteable(name)}")
    return OperationsSettings(
        demo_page=demo_page, metrics_token=metrics, admin_tokens=admins, openai_api_keys=of_programs
    )


def _of_programs(api_keys: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Give the keys with what messages call them; those without a name by their place."""
    return [
        (f"OPENAI_API_KEYS ({f'entry {place}' if name.startswith('#') else name})", secret)
        for place, (name, secret) in enumerate(api_keys.items(), start=1)
    ]


def refuse_equal(
    reader: Reader,
    of_tokens: TokenSettings,
    checking: ChallengeSettings | None,
    operators: OperationsSettings,
    api_keys: Iterable[tuple[str, str | None]],
    audit_key: str | None = None,
) -> None:
    """Refuse a secret that serves two purposes: whoever is told it for the one could then do the other.

    Several bots may share the key that n8n asks for.
    """
    named: list[tuple[str, str | None]] = [
        *zip(("JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS"), of_tokens.jwt_secrets, strict=False),
        ("SESSION_SECRET_KEY", of_tokens.session_secret),
        ("IDENTITY_SECRET_KEY", of_tokens.identity_secret),
        ("AUDIT_KEY", audit_key),
        ("CHALLENGE_SECRET", checking.secret if checking else None),
        ("METRICS_TOKEN", operators.metrics_token),
        *((f"ADMIN_TOKENS ({name})", secret) for name, secret in operators.admin_tokens.items()),
        *_of_programs(operators.openai_api_keys),
    ]
    first: dict[str, str] = {}
    for name, secret in named:
        if secret is not None and first.setdefault(secret, name) != name:
            _refuse_twin(reader, name, first[secret])
    for name, secret in api_keys:
        if secret is not None and secret in first:
            _refuse_twin(reader, name, first[secret])


def _refuse_twin(reader: Reader, name: str, other: str) -> None:
    problem = f"is equal to {other}; whoever knows the one could use it as the other"
    reader.refuse(name, problem, _EXPECTED, pasteable(name.partition(" ")[0]))
