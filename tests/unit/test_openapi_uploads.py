"""The description of messages with files: there where files are accepted, and with the limits that are set."""

import json
from typing import Any

import msgspec
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types
from openapi_spec_validator import OpenAPIV31SpecValidator

from chatcore import openapi
from chatcore.settings import Settings
from tests.support.settings import settings_with


def described(settings: Settings) -> Any:
    return json.loads(msgspec.json.encode(openapi.document(settings)))


def test_forms_are_described_where_files_are_accepted() -> None:
    settings = settings_with(uploads={"max_bytes": 1000, "max_files": 2, "types": ("text/plain", "image/*")})
    document = described(settings)
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())
    send = document["paths"]["/api/v1/chat"]["post"]
    files = send["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["files"]
    assert files["maxItems"] == 2
    assert "at most 1000 bytes" in files["description"]
    assert "text/plain, image/*" in files["description"]
    assert "408" in send["responses"]


def test_a_session_tells_what_the_description_says() -> None:
    for max_bytes in (0, 1000):
        settings = settings_with(uploads={"max_bytes": max_bytes})
        features = described(settings)["components"]["schemas"]["Session"]["properties"]["features"]["properties"]
        told = json.loads(msgspec.json.encode(settings.uploads.told))
        Draft202012Validator(features["uploads"]).validate(told)
        forms = described(settings)["paths"]["/api/v1/chat"]["post"]["requestBody"]["content"]
        assert ("multipart/form-data" in forms) == bool(max_bytes)
