"""OpenAI's API in the description: models and chat completions for programs with a key, errors in its own shape."""

from collections.abc import Iterable
from typing import Any

from chatcore import errors as kinds
from chatcore.error_shapes import openai_error
from chatcore.errors import Kind, Refusal
from chatcore.openai_request import MAX_MESSAGES, MAX_NAME_CHARS, MAX_STOP_CHARS, MAX_STOPS
from chatcore.openapi.responses import EVERYWHERE, LIMITS, OF_A_REPLY, answer, errors, json, schema
from chatcore.openapi.schemas import NOT_BLANK, WITHOUT_NUL
from chatcore.settings import Settings

_KEY: list[dict[str, list[str]]] = [{"api_key": []}]
_ADMITTED = (*EVERYWHERE, kinds.TOKEN_MISSING, kinds.TOKEN_INVALID, kinds.RATE_LIMITED, kinds.STORE_UNAVAILABLE)
_REFUSED = (
    kinds.INVALID_JSON,
    kinds.MODEL_NOT_FOUND,
    kinds.BODY_TOO_LARGE,
    kinds.UNSUPPORTED_MEDIA_TYPE,
    kinds.DAILY_LIMIT_REACHED,
    *OF_A_REPLY,
)
_ABOUT = {"id": "chatcmpl-0b7f9c3e9d2a4c1e8f0b3a5d7e9c1b2f", "created": 1769851800, "model": "default"}
_USAGE = {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
_MODEL = {"id": "default", "object": "model", "created": 1769817600, "owned_by": "chatcore"}
_STREAM = (
    'data: {"id":"chatcmpl-0b7f9c3e9d2a4c1e8f0b3a5d7e9c1b2f","object":"chat.completion.chunk","created":1769851800,'
    '"model":"default","choices":[{"index":0,"delta":{"content":"Hello!"},"logprobs":null,"finish_reason":null}]}\n\n'
    "data: [DONE]\n\n"
)
_COMPLETION = {
    **_ABOUT,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! How can I help?", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}


def openai_paths(settings: Settings) -> dict[str, Any]:
    """Give the paths, where any program has a key."""
    if not settings.operations.openai_api_keys:
        return {}
    listed = {
        "operationId": "listModels",
        "tags": ["openai"],
        "summary": "The bots, as models",
        "security": _KEY,
        "responses": {
            "200": answer("All of them.", json("ModelList", {"object": "list", "data": [_MODEL]}), "Cache-Control"),
            **_errors(_ADMITTED),
        },
    }
    one = {
        "operationId": "showModel",
        "tags": ["openai"],
        "summary": "One bot, as a model",
        "security": _KEY,
        "parameters": [
            {
                "name": "model",
                "in": "path",
                "required": True,
                "schema": {"enum": sorted(settings.upstream.bots)},
                "description": "The name of a bot.",
            }
        ],
        "responses": {
            "200": answer("It is there.", json("Model", _MODEL), "Cache-Control"),
            **_errors((*_ADMITTED, kinds.MODEL_NOT_FOUND, kinds.NOT_FOUND)),
        },
    }
    media = {
        **json("Completion", _COMPLETION),
        "text/event-stream": {
            "schema": {
                "description": "`data:` lines: a `CompletionChunk` each, an `OpenAiError` where the reply failed, "
                "`[DONE]` at the end; `: ping` after 15 s of silence.",
            },
            "example": _STREAM,
        },
    }
    complete = {
        "operationId": "createCompletion",
        "tags": ["openai"],
        "summary": "Send a conversation's last message and get its reply",
        "description": "`stream` gives chunks, else one document comes, with white space before it where it takes more "
        "than 15 s; a failure after that is its member `error`. Members that are not named here are ignored.",
        "security": _KEY,
        "parameters": [
            _session("X-Session-Id", "Names the session, within the key and the bot."),
            _session("X-OpenWebUI-Chat-Id", "The same, where `X-Session-Id` is absent; Open WebUI sends it."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schema("CompletionRequest"),
                    "example": {"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
                }
            },
        },
        "responses": {
            "200": answer("The reply.", media, "Cache-Control", *LIMITS),
            **_errors((*_ADMITTED, *_REFUSED)),
        },
    }
    return {
        "/v1/chat/completions": {"post": complete},
        "/v1/models": {"get": listed},
        "/v1/models/{model}": {"get": one},
    }


def openai_schemas(settings: Settings) -> dict[str, Any]:
    """Give the schemas of what programs send and get, where any has a key."""
    if not settings.operations.openai_api_keys:
        return {}
    text = {"type": "string"}
    count = {"type": "integer", "minimum": 0}
    part = _object({"type": {"const": "text"}, "text": {"type": "string", "pattern": WITHOUT_NUL}})
    user = _object({"role": {"const": "user"}, "content": _content(settings.intake.max_message_chars, NOT_BLANK)})
    rule = _object(
        {
            "role": {"enum": ["system", "developer"]},
            "content": {"anyOf": [{"type": "string", "pattern": WITHOUT_NUL}, {"type": "array", "items": part}]},
        }
    )
    said = _object(
        {
            "role": {"enum": ["assistant", "tool", "function"]},
            "content": {"type": ["string", "null"], "pattern": WITHOUT_NUL},
        },
        "role",
    )
    stop = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARS, "pattern": WITHOUT_NUL}
    asked = {
        "model": {"enum": sorted(settings.upstream.bots), "description": "The name of a bot."},
        "messages": {
            "type": "array",
            "items": {"anyOf": [user, rule, said]},
            "contains": user,
            "description": "The last one of a user is what is asked; the others go along as far as they fit. "
            f"At most {MAX_MESSAGES}.",
        },
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"], "properties": {"include_usage": {"type": ["boolean", "null"]}}},
        "stop": {
            "anyOf": [stop, {"type": "array", "maxItems": MAX_STOPS, "items": stop}, {"type": "null"}],
            "description": "Where the reply is to end.",
        },
        "n": {"enum": [1, None]},
        "user": {
            "type": ["string", "null"],
            "maxLength": MAX_NAME_CHARS,
            "pattern": WITHOUT_NUL,
            "description": "Names the session where no header does.",
        },
    }
    usage = {
        **_object(dict.fromkeys(_USAGE, count)),
        "description": "Estimates: four bytes of UTF-8 are counted as a token.",
    }
    choice = {
        "index": {"const": 0},
        "message": _object({"role": {"const": "assistant"}, "content": {"type": ["string", "null"]}}),
        "finish_reason": {"enum": ["stop", "error"]},
    }
    piece = {
        "index": {"const": 0},
        "delta": {"type": "object", "properties": {"role": {"const": "assistant"}, "content": text}},
        "finish_reason": {"enum": ["stop", None]},
    }
    about = {"id": text, "created": count, "model": text}
    error = {"message": text, "type": text, "param": {"type": ["string", "null"]}, "code": text, "content": text}
    failed = _object({"error": _object(error, "message", "type", "param", "code")})
    model = _object({"id": text, "object": {"const": "model"}, "created": count, "owned_by": text})
    completion = {
        **about,
        "object": {"const": "chat.completion"},
        "choices": {"type": "array", "items": _object(choice)},
        "usage": usage,
        "error": failed["properties"]["error"],
    }
    chunk = {
        **about,
        "object": {"const": "chat.completion.chunk"},
        "choices": {"type": "array", "items": _object(piece)},
        "usage": {"anyOf": [usage, {"type": "null"}]},
    }
    return {
        "CompletionRequest": _object(asked, "model", "messages"),
        "Completion": _object(completion, *_COMPLETION),
        "CompletionChunk": _object(chunk, *about, "object", "choices"),
        "Model": model,
        "ModelList": _object({"object": {"const": "list"}, "data": {"type": "array", "items": schema("Model")}}),
        "OpenAiError": failed,
    }


def _content(most: int, pattern: str) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": most, "pattern": pattern}
    part = _object({"type": {"const": "text"}, "text": text})
    return {"anyOf": [text, {"type": "array", "minItems": 1, "items": part}]}


def _session(name: str, said: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": said, "schema": {"type": "string"}, "example": "chat-17"}


def _errors(refused: Iterable[Kind]) -> dict[str, Any]:
    """Describe refusals as everywhere, but for the shape of their documents."""
    described = errors(refused)
    by_code = {kind.code: kind for kind in refused}
    for said in described.values():
        media = said.get("content", {}).pop("application/problem+json", None)
        if media is not None:
            examples = {code: {"value": openai_error(Refusal(by_code[code]))} for code in media["examples"]}
            said["content"]["application/json"] = {"schema": schema("OpenAiError"), "examples": examples}
    return described


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Describe an object; all members are required unless some are named."""
    return {"type": "object", "properties": properties, "required": list(required or properties)}
