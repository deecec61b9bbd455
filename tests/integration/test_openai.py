"""OpenAI's API as its own SDK sees it: models, completions as documents and streams, errors, sessions, stop, limits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from tests.conftest import StartServer
from tests.support.answers import (
    Until,
    answer_bytes,
    answer_empty,
    answer_error,
    answer_json,
    answer_segments,
    answer_stream,
    answer_text,
    hold,
    line,
    stall,
    stream_parts,
)
from tests.support.background import Gate, eventually
from tests.support.n8n import ScriptedN8n
from tests.support.openai_sdk import KEY, KEYS, OTHER, program
from tests.support.server import ChatServer


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture(name="server")
def _server(start_server: StartServer, n8n: ScriptedN8n) -> ChatServer:
    return start_server(n8n, KEYS)


@pytest.fixture(name="sdk")
async def _sdk(server: ChatServer) -> AsyncIterator[AsyncOpenAI]:
    async with program(server) as client:
        yield client


async def said(stream: Any) -> tuple[str, list[ChatCompletionChunk]]:
    """Read a stream to its end: its text and all chunks."""
    chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks


async def ask(sdk: AsyncOpenAI, *, stream: bool, **options: Any) -> str | None:
    """Ask in one of the two ways, and give the text."""
    got: Any = await sdk.chat.completions.create(model="default", messages=user("Hi"), stream=stream, **options)
    if stream:
        text, chunks = await said(got)
        assert chunks[-1].choices[0].finish_reason == "stop"
        return text
    assert got.choices[0].finish_reason == "stop"
    assert got.usage.completion_tokens == -(-len(got.choices[0].message.content.encode()) // 4)
    return str(got.choices[0].message.content)


async def test_the_bots_are_its_models(start_server: StartServer, n8n: ScriptedN8n) -> None:
    async with program(start_server(n8n, {**KEYS, "N8N_WEBHOOK_URL_SALES": n8n.url})) as sdk:
        models = [model async for model in sdk.models.list()]
        assert [(model.id, model.object, model.owned_by) for model in models] == [
            ("default", "model", "chatcore"),
            ("sales", "model", "chatcore"),
        ]
        assert (await sdk.models.retrieve("sales")).created == models[1].created > 1_700_000_000
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.models.retrieve("gpt-5")
    assert (unknown.value.code, unknown.value.param, unknown.value.type) == (
        "model_not_found",
        "model",
        "not_found_error",
    )


async def test_a_completion_is_one_document(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    completion = await sdk.chat.completions.create(model="default", messages=user("Grüße"), temperature=0.2)
    (choice,) = completion.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", "Echo: Grüße")
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model) == ("chat.completion", "default")
    assert completion.usage is not None
    assert completion.usage.to_dict() == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    sent = n8n.requests[0].json
    assert sent["chatInput"] == "Grüße"
    assert set(sent) == {"action", "sessionId", "chatInput", "context"}
    assert set(sent["context"]) == {"message_id", "received_at"}


async def test_a_stream_has_a_role_text_a_reason_and_an_end(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(model="default", messages=user("Hi"), stream=True)
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["cache-control"] == "no-cache, no-transform"
    text, chunks = await said(stream)
    assert text == "Echo: Hi"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {"default"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_usage_comes_last_where_it_is_asked_for(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="default", messages=user("Hello!!!"), stream=True, stream_options={"include_usage": True}
    )
    _, chunks = await said(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.to_dict() == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])


async def test_whatever_n8n_answers(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    for answer, text in (
        (answer_json({"output": "one document"}), "one document"),
        (answer_json([{"output": "a"}, {"text": "b"}]), "a\n\nb"),
        (answer_text("plain"), "plain"),
        (answer_segments(["first ", "agent"], ["second"]), "first agent\n\nsecond"),
    ):
        n8n.answer(answer)
        assert [await ask(sdk, stream=stream) for stream in (False, True)] == [text, text]


async def test_a_conversation_becomes_history(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    conversation: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        {"role": "user", "content": "What is 1+1?", "name": "anna"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {}}]},
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "text", "text": "And 2+2?"}]},
    ]
    await sdk.chat.completions.create(model="default", messages=conversation, tools=[], seed=1)
    sent = n8n.requests[0].json
    assert sent["chatInput"] == "And 2+2?"
    assert sent["history"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is 1+1?"},
        {"role": "assistant", "content": "2"},
    ]


async def test_sessions_are_named_and_belong_to_key_and_bot(start_server: StartServer, n8n: ScriptedN8n) -> None:
    server = start_server(n8n, {**KEYS, "N8N_WEBHOOK_URL_SALES": n8n.url})

    async def session(key: str = KEY, model: str = "default", **options: Any) -> str:
        async with program(server, key) as sdk:
            await sdk.chat.completions.create(model=model, messages=user("Hi"), **options)
        name = n8n.requests[-1].json["sessionId"]
        assert isinstance(name, str)
        assert len(name) == 45
        assert name.startswith("o_")
        return name

    anna = await session(user="anna")
    assert await session(extra_headers={"X-OpenWebUI-Chat-Id": "anna"}) == anna
    assert await session(extra_headers={"X-Session-Id": "anna", "X-OpenWebUI-Chat-Id": "x"}, user="y") == anna
    assert await session(extra_headers={"X-Session-Id": ""}, user="anna") == anna
    others = [
        await session(user="ben"),
        await session(OTHER, user="anna"),
        await session(model="sales", user="anna"),
        await session(),
        await session(),
        await session(extra_headers={"X-Session-Id": anna}),
    ]
    assert len({anna, *others}) == 7
    later = start_server(n8n, {"OPENAI_API_KEYS": f"tests:{OTHER}"})
    async with program(later, OTHER) as sdk:
        await sdk.chat.completions.create(model="default", messages=user("Hi"), user="anna")
    assert n8n.requests[-1].json["sessionId"] == anna, "a name outlives its key, and a restart"


async def test_a_wrong_key_is_refused(server: ChatServer, n8n: ScriptedN8n) -> None:
    for key in ("sk-wrong", KEY[:-1]):
        async with program(server, key) as sdk:
            for call in (sdk.models.list(), sdk.chat.completions.create(model="default", messages=user("Hi"))):
                with pytest.raises(openai.AuthenticationError) as refused:
                    await call
                assert (refused.value.code, refused.value.type) == ("token_invalid", "authentication_error")
        assert key not in server.log
    assert n8n.requests == []


async def test_guessing_ends_after_five_a_minute(server: ChatServer) -> None:
    async with program(server, "sk-guess") as guesser, program(server) as right:
        for _ in range(5):
            with pytest.raises(openai.AuthenticationError):
                await guesser.models.list()
        with pytest.raises(openai.RateLimitError) as limited:
            await guesser.models.list()
        assert 1 <= int(limited.value.response.headers["retry-after"]) <= 12
        with pytest.raises(openai.RateLimitError):
            await right.models.list()
    await eventually(lambda: server.log.count("KeyRefused") == 5)


async def test_a_right_key_may_be_used_many_times_at_once(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(hold(gate))
    asked = [
        asyncio.create_task(sdk.chat.completions.create(model="default", messages=user(str(n)))) for n in range(20)
    ]
    await eventually(lambda: len(n8n.requests) == 20)
    gate.open()
    assert {(await one).choices[0].message.content for one in asked} == {"at last"}


async def test_limits_are_those_of_the_key_and_the_session(start_server: StartServer, n8n: ScriptedN8n) -> None:
    server = start_server(n8n, {**KEYS, "RATE_LIMIT_PER_MINUTE": "4", "SESSION_RATE_LIMIT_PER_MINUTE": "2"})
    async with program(server) as sdk, program(server, OTHER) as other:
        complete = sdk.chat.completions
        first = await complete.with_raw_response.create(model="default", messages=user("Hi"), user="anna")
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("2", "1")
        await complete.create(model="default", messages=user("Hi"), user="anna")
        with pytest.raises(openai.RateLimitError) as refused:
            await complete.create(model="default", messages=user("Hi"), user="anna")
        assert (refused.value.code, refused.value.type) == ("rate_limited", "rate_limit_error")
        assert int(refused.value.response.headers["retry-after"]) >= 1
        await complete.create(model="default", messages=user("Hi"), user="ben")
        with pytest.raises(openai.RateLimitError):
            await complete.create(model="default", messages=user("Hi"), user="carl")
        await other.chat.completions.create(model="default", messages=user("Hi"), user="anna")
    assert len(n8n.requests) == 4


async def test_a_day_s_limit_is_not_tried_again(start_server: StartServer, n8n: ScriptedN8n) -> None:
    server = start_server(n8n, {**KEYS, "DAILY_MESSAGE_LIMIT": "30", "DAILY_MESSAGE_LIMIT_PER_ADDRESS": "1"})
    async with program(server, max_retries=2) as sdk, program(server, OTHER) as other:
        await sdk.chat.completions.create(model="default", messages=user("Hi"))
        with pytest.raises(openai.RateLimitError) as refused:
            await sdk.chat.completions.create(model="default", messages=user("Hi"))
        assert refused.value.code == "daily_limit_reached"
        await other.chat.completions.create(model="default", messages=user("Hi"))


async def test_a_failure_of_n8n_is_a_server_error_that_is_not_tried_again(server: ChatServer, n8n: ScriptedN8n) -> None:
    cases = (
        (answer_json({"message": "Error in workflow"}, status=500), "upstream_error"),
        (answer_error(), "upstream_error"),
        (answer_empty(), "upstream_empty"),
        (answer_json({"code": 404, "hint": "not registered"}, status=404), "upstream_not_found"),
        (answer_json({}, status=401), "upstream_refused"),
    )
    async with program(server, max_retries=2) as sdk:
        for answer, code in cases:
            n8n.answer(answer)
            for stream in (False, True):
                with pytest.raises(openai.InternalServerError) as failed:
                    await ask(sdk, stream=stream)
                told = failed.value
                assert (told.status_code, told.code, told.type) == (502, code, "server_error")
                assert "sk-secret" not in str(told)
    assert len(n8n.requests) == 2 * len(cases)


async def test_while_n8n_is_away_the_sdk_tries_again(server: ChatServer, n8n: ScriptedN8n) -> None:
    n8n.refuse()
    async with program(server, max_retries=1) as sdk:
        with pytest.raises(openai.InternalServerError) as failed:
            await sdk.chat.completions.create(model="default", messages=user("Hi"))
        assert failed.value.code == "upstream_unavailable"
        assert failed.value.response.request.headers["x-stainless-retry-count"] == "1"


async def test_a_failure_after_text_ends_a_stream_with_an_error(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_error("Half of ", "it"))
    stream = await sdk.chat.completions.create(model="default", messages=user("Hi"), stream=True)
    pieces: list[str] = []

    async def read() -> None:
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the error is kept

    with pytest.raises(openai.APIError) as failed:
        await read()
    assert "".join(pieces) == "Half of it"
    assert failed.value.code == "upstream_error"
    assert "sk-secret" not in str(failed.value.body)


async def test_a_failure_after_text_is_an_error_with_the_text(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_error("Half of ", "it"))
    with pytest.raises(openai.InternalServerError) as failed:
        await sdk.chat.completions.create(model="default", messages=user("Hi"))
    assert isinstance(failed.value.body, dict)
    assert failed.value.body["content"] == "Half of it"


async def test_a_client_that_leaves_stops_its_reply(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    n8n.answer(stall("So far"))
    stream = await sdk.chat.completions.create(model="default", messages=user("Hi"), stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await eventually(lambda: n8n.hangups == 1)
    asked = asyncio.create_task(sdk.chat.completions.create(model="default", messages=user("Hi")))
    await eventually(lambda: len(n8n.requests) == 2)
    asked.cancel()
    await eventually(lambda: n8n.hangups == 2)


STOPS: list[tuple[list[str], list[str], str]] = [
    (["one STOP two"], ["STOP"], "one "),
    (["one ST", "OP two"], ["STOP"], "one "),
    (["one S", "T", "O", "P"], ["STOP", "x"], "one "),
    (["one ST", "and"], ["STOP"], "one STand"),
    (["ends with ST"], ["STOP"], "ends with ST"),
    (["a\nb"], ["\n"], "a"),
    (["abcd"], ["abcd", "bc"], "a"),
    (["STOP at once"], ["STOP"], ""),
]


async def test_a_stop_sequence_ends_the_text(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    for texts, stop, shown in STOPS:
        n8n.answer(answer_stream(texts))
        assert [await ask(sdk, stream=stream, stop=stop) for stream in (False, True)] == [shown, shown]


async def test_a_stop_sequence_ends_the_exchange_with_n8n(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    n8n.answer(stall("one ", "ST", "OP", " and on"))
    assert [await ask(sdk, stream=stream, stop="STOP") for stream in (False, True)] == ["one ", "one "]
    await eventually(lambda: n8n.hangups == 2)


async def test_a_failure_behind_the_stop_sequence_is_none(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    lines = [*stream_parts(["one STOP"])[:-1], line("error", "no")]
    n8n.answer(answer_bytes(b"".join(part for part in lines if isinstance(part, bytes)), framing="length"))
    assert [await ask(sdk, stream=stream, stop="STOP") for stream in (False, True)] == ["one ", "one "]


async def test_a_long_silence_is_bridged(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    """Four silences side by side, for each takes 15 s until the head comes; n8n answers once all have theirs."""
    gate, heads = Gate(), asyncio.Barrier(4)
    n8n.answer(lambda request: hold(gate, answer_empty() if "fail" in request.text else None))

    async def streamed(text: str) -> str:
        stream = await sdk.chat.completions.create(model="default", messages=user(text), stream=True)
        await heads.wait()
        gate.open()
        return (await said(stream))[0]

    async def documented(text: str) -> Any:
        create = sdk.chat.completions.with_streaming_response.create
        async with create(model="default", messages=user(text)) as response:
            await heads.wait()
            gate.open()
            completion: Any = await response.parse()
            assert (await response.text()).startswith(" \n")
            assert response.headers["x-accel-buffering"] == "no"
            return completion

    texts: list[Any] = await asyncio.gather(
        *(streamed("say"), streamed("fail"), documented("say"), documented("fail")), return_exceptions=True
    )
    assert texts[0] == "at last"
    assert isinstance(texts[1], openai.APIError)
    assert texts[1].code == "upstream_empty"
    assert (texts[2].choices[0].message.content, texts[2].choices[0].finish_reason) == ("at last", "stop")
    assert texts[3].error["code"] == "upstream_empty"
    assert (texts[3].choices[0].message.content, texts[3].choices[0].finish_reason) == (None, "error")


async def test_a_page_s_origin_is_not_told_as_if_it_had_been_checked(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    got = await sdk.chat.completions.with_raw_response.create(
        model="default", messages=user("Hi"), extra_headers={"Origin": "https://anywhere.example"}
    )
    assert got.headers["access-control-allow-origin"] == "*"
    assert "origin" not in n8n.requests[0].json["context"]


async def test_pieces_come_as_they_are_said(sdk: AsyncOpenAI, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_bytes(line("begin"), line("item", "now "), Until(gate), line("item", "then"), line("end")))
    stream = await sdk.chat.completions.create(model="default", messages=user("Hi"), stream=True)
    text = ""
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if text == "now ":
            gate.open()
    assert text == "now then"


async def test_the_legacy_ways_to_ask_for_json_and_tools_do_not_fail(sdk: AsyncOpenAI) -> None:
    got = await sdk.chat.completions.create(
        model="default",
        messages=user("Hi"),
        n=1,
        response_format={"type": "json_object"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        tool_choice="auto",
        max_completion_tokens=10,
        logit_bias={"1": 2},
    )
    assert got.choices[0].message.content == "Echo: Hi"
