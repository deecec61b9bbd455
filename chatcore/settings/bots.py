"""Which n8n webhooks there are, and what each has of its own: `N8N_WEBHOOK_URL` and `…_<BOT>`."""

import re
from urllib.parse import urlsplit

from chatcore.settings.addresses import WEBHOOK, WebAddress, origins
from chatcore.settings.forms import HEADER_NAME, HEADER_VALUE, whole
from chatcore.settings.reader import Reader
from chatcore.settings.values import BotSettings

DEFAULT = "default"
PER_BOT = ("N8N_WEBHOOK_URL", "N8N_API_KEY", "ALLOWED_ORIGINS", "RATE_LIMIT_PER_MINUTE", "DAILY_MESSAGE_LIMIT")
RATE = whole(1, 1_000_000, 60)
DAILY = whole(0, 1_000_000_000, 2000)
_FILE_TOO = ("N8N_WEBHOOK_URL", "N8N_API_KEY")
_COMMON = frozenset(
    {"N8N_WEBHOOK_URL_FILE", "N8N_API_KEY_FILE", "N8N_API_KEY_HEADER", "DAILY_MESSAGE_LIMIT_PER_ADDRESS"}
)
_NAME = re.compile(r"[A-Z][A-Z0-9]{0,31}", re.ASCII)
_RESERVED = frozenset({"FILE", "HEADER", "PREVIOUS", "DEFAULT"})
_EXPECTED = (
    "a bot's name in upper case after the last _: a letter, then at most 31 letters and digits; not "
    + ", ".join(sorted(_RESERVED))
)


def read(reader: Reader, *, demo: bool) -> dict[str, BotSettings]:
    """Read all bots, `default` first. With `demo` their addresses are left empty: a stand-in will answer."""
    header = reader.take("N8N_API_KEY_HEADER", HEADER_NAME, default="X-N8N-API-KEY")
    common = BotSettings(
        name=DEFAULT,
        url="",
        api_key=reader.take("N8N_API_KEY", HEADER_VALUE, default=None),
        api_key_header=header,
        allowed_origins=reader.take("ALLOWED_ORIGINS", origins(everybody=demo), default=()),
        rate_limit_per_minute=reader.take("RATE_LIMIT_PER_MINUTE", RATE, default=60),
        daily_message_limit=reader.take("DAILY_MESSAGE_LIMIT", DAILY, default=0),
    )
    per_address = reader.take("DAILY_MESSAGE_LIMIT_PER_ADDRESS", DAILY, default=None)
    suffixes = ["", *(f"_{name}" for name in _names(reader))]
    bots = [_bot(reader, common, suffix, per_address, demo=demo) for suffix in suffixes]
    if header != "X-N8N-API-KEY" and not any(bot.api_key for bot in bots):
        reader.warn("N8N_API_KEY_HEADER has no effect, since N8N_API_KEY is not set.")
    return {bot.name: bot for bot in bots}


def variable(prefix: str, bot: str) -> str:
    """Name the variable that sets `prefix` for `bot`."""
    return prefix if bot == DEFAULT else f"{prefix}_{bot.upper()}"


def _bot(reader: Reader, common: BotSettings, suffix: str, per_address: int | None, *, demo: bool) -> BotSettings:
    address = _unused(reader, f"N8N_WEBHOOK_URL{suffix}") if demo else _address(reader, f"N8N_WEBHOOK_URL{suffix}")
    name = suffix[1:].lower() or DEFAULT
    key, allowed, rate, daily = (
        common.api_key,
        common.allowed_origins,
        common.rate_limit_per_minute,
        common.daily_message_limit,
    )
    if suffix:
        key = reader.take(f"N8N_API_KEY{suffix}", HEADER_VALUE, default=key)
        allowed = reader.take(f"ALLOWED_ORIGINS{suffix}", origins(everybody=demo), default=allowed)
        rate = reader.take(f"RATE_LIMIT_PER_MINUTE{suffix}", RATE, default=rate)
        daily = reader.take(f"DAILY_MESSAGE_LIMIT{suffix}", DAILY, default=daily)
    if key is not None and address.basic_auth is not None and common.api_key_header.lower() == "authorization":
        reader.refuse(
            f"N8N_WEBHOOK_URL{suffix}",
            "holds a user and password, and N8N_API_KEY is to go into the same header, Authorization",
            "one of the two, or another N8N_API_KEY_HEADER",
            "N8N_API_KEY_HEADER=X-N8N-API-KEY",
        )
    return BotSettings(
        name=name,
        url=address.url,
        basic_auth=address.basic_auth,
        api_key=key,
        api_key_header=common.api_key_header,
        allowed_origins=allowed,
        rate_limit_per_minute=rate,
        daily_message_limit=daily,
        daily_message_limit_per_address=(max(1, daily // 10) if daily else 0) if per_address is None else per_address,
    )


def _unused(reader: Reader, name: str) -> WebAddress:
    for written in (name, f"{name}_FILE"):
        reader.asked.add(written)
        if reader.is_set(written):
            reader.warn(f"{written} is not used: with --demo a stand-in answers in the place of n8n.")
    return WebAddress("")


def _address(reader: Reader, name: str) -> WebAddress:
    faults = len(reader.faults)
    address = reader.take(name, WEBHOOK, default=None)
    if address is None:
        if len(reader.faults) == faults:
            expected = "the address of n8n's webhook; or start with --demo, which needs no n8n"
            reader.refuse(name, "is not set", expected, f"{name}={WEBHOOK.example}")
        return WebAddress("")
    path = urlsplit(address.url).path
    if "/webhook-test/" in path:
        reader.warn(
            f"{name} is a test address, at which n8n listens for one message after a click in its editor. "
            "Use the production address, with /webhook/ in it, of an active workflow."
        )
    elif path == "/":
        reader.warn(f"{name} has no path. The addresses of n8n's webhooks look like {WEBHOOK.example}.")
    return address


def _names(reader: Reader) -> list[str]:
    """Find the bots' names, in the order of the alphabet; refuse those that cannot be."""
    suffixes: dict[str, dict[str, str]] = {prefix: {} for prefix in PER_BOT}
    for variable in sorted(reader.names() - _COMMON):
        for prefix, found in suffixes.items():
            if variable.startswith(f"{prefix}_"):
                suffix = variable.removeprefix(f"{prefix}_")
                found[suffix.removesuffix("_FILE") if prefix in _FILE_TOO else suffix] = variable
    bots = []
    for suffix, variable in suffixes["N8N_WEBHOOK_URL"].items():
        if _is_name(reader, variable, suffix):
            bots.append(suffix)
    for prefix in PER_BOT[1:]:
        for suffix, variable in suffixes[prefix].items():
            if _is_name(reader, variable, suffix) and suffix not in bots:
                problem = f"is for a bot that does not exist: N8N_WEBHOOK_URL_{suffix} is not set"
                reader.refuse(variable, problem, "the name of a bot", f"N8N_WEBHOOK_URL_{suffix}={WEBHOOK.example}")
    return bots


def _is_name(reader: Reader, variable: str, suffix: str) -> bool:
    if _NAME.fullmatch(suffix) and suffix not in _RESERVED:
        return True
    prefix = variable.removesuffix("_FILE").removesuffix(f"_{suffix}")
    if suffix == "FILE":
        problem, example = "cannot be given as a file", f"{prefix}=…"
    elif suffix == "DEFAULT":
        problem, example = f"is written {prefix}, without a name", f"{prefix}=…"
    else:
        problem, example = "does not end in a bot's name", f"{prefix}_SALES=…"
    reader.refuse(variable, problem, _EXPECTED, example)
    return False
