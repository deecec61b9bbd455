"""Settings of traces: what they come to, and what is wrong with those that cannot be used."""

import pytest

from tests.support.told import NEEDED, faults, read

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
ON = {**NEEDED, ENDPOINT: "http://localhost:4318"}


def test_without_an_endpoint_there_are_no_traces() -> None:
    assert read(NEEDED).tracing is None
    assert read({**NEEDED, ENDPOINT: " ", "OTEL_SERVICE_NAME": "shop", HEADERS: "a=b"}).tracing is None


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://OTLP.example.com:443/otlp/", "https://otlp.example.com/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_the_path_is_added(endpoint: str, url: str) -> None:
    tracing = read({**NEEDED, ENDPOINT: endpoint}).tracing
    assert tracing is not None
    assert tracing.url == url


def test_all_of_them() -> None:
    told = {"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    headers = "Authorization=Bearer%20a%2Cb, X-Tenant = chat,"
    tracing = read({**ON, **told, "OTEL_TRACES_SAMPLER_ARG": "0.25", HEADERS: headers}).tracing
    assert tracing is not None
    assert tracing.headers == {"Authorization": "Bearer a,b", "X-Tenant": "chat"}
    assert (tracing.service_name, tracing.sampler, tracing.ratio) == ("shop", "parentbased_traceidratio", 0.25)
    assert "Bearer" not in repr(tracing)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (ENDPOINT, "localhost:4318", "does not begin with http:// or https://"),
        (ENDPOINT, "grpc://localhost:4317", "does not begin with http:// or https://"),
        (ENDPOINT, "http://user:pass@localhost:4318", "holds a user name or password, which has no use here"),
        (ENDPOINT, "http://localhost:4318/v1/traces", "ends with /v1/traces, which is added to it"),
        ("OTEL_TRACES_SAMPLER", "always_on", "is none of the words that are understood"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "is too large"),
        ("OTEL_TRACES_SAMPLER_ARG", "-1", "is not a number"),
        (HEADERS, "Authorization", "entry 1 is not name=value with a header's name, each once"),
        (HEADERS, "a=b,,A=c", "entry 3 is not name=value with a header's name, each once"),
        (HEADERS, "a=b%0D%0AX: y", "entry 1 is not name=value with a header's name, each once"),
        (HEADERS, "Content-Type=text/plain", "entry 1 is not name=value with a header's name, each once"),
    ],
)
def test_what_cannot_be_used_is_told(name: str, value: str, problem: str) -> None:
    [fault] = faults({**ON, name: value})
    assert (fault.variable, fault.problem) == (name, problem)
    assert name != HEADERS or fault.value is None
    assert "pass" not in str(fault.value)


def test_the_fault_of_a_whole_address_shows_the_right_one() -> None:
    [fault] = faults({**NEEDED, ENDPOINT: "http://localhost:4318/v1/traces"})
    assert fault.example == f"{ENDPOINT}=http://localhost:4318"
