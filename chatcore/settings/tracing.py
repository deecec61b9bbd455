"""Settings of traces: the variables of OpenTelemetry that are read, and what each may be."""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

from chatcore.settings.addresses import COLLECTOR
from chatcore.settings.faults import BadValueError
from chatcore.settings.forms import HEADER_NAME, HEADER_VALUE, Form, choice, number
from chatcore.settings.reader import Reader
from chatcore.settings.values import TracingSettings

TRACES_PATH = "/v1/traces"


def _parse_headers(text: str) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for place, entry in enumerate((part.strip() for part in text.split(",")), start=1):
        if not entry:
            continue
        name, equals, value = entry.partition("=")
        try:
            name, value = HEADER_NAME.parse(name.strip()), HEADER_VALUE.parse(unquote(value.strip()))
        except BadValueError:
            equals = ""
        if not equals or name.lower() in {known.lower() for known in headers}:
            raise BadValueError(f"entry {place} is not name=value with a header's name, each once")
        headers[name] = value
    return headers


_HEADERS = Form(
    _parse_headers,
    "name=value, comma separated, values percent-encoded",
    "Authorization=Bearer%20the-token-the-collector-knows",
    "nothing",
    file=True,
)
_NAME = Form(str, "the name under which traces are shown", "chatcore")
_SAMPLER: Form[Literal["traceidratio", "parentbased_traceidratio"]] = choice(
    "traceidratio", "parentbased_traceidratio", example="traceidratio"
)


def read(reader: Reader) -> TracingSettings | None:
    """Read all of them; None where no traces are wanted."""
    endpoint = reader.take("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR, default=None)
    settings = TracingSettings(
        url=f"{endpoint}{TRACES_PATH}",
        headers=reader.take("OTEL_EXPORTER_OTLP_HEADERS", _HEADERS, default={}),
        service_name=reader.take("OTEL_SERVICE_NAME", _NAME, default="chatcore"),
        sampler=reader.take("OTEL_TRACES_SAMPLER", _SAMPLER, default="traceidratio"),
        ratio=reader.take("OTEL_TRACES_SAMPLER_ARG", number(0, 1, 0.1), default=1.0),
    )
    return None if endpoint is None else settings
