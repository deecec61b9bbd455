"""Where settings come from, and which source wins."""

from pathlib import Path

from tests.support.told import KEYS, NEEDED, URL, faults, one_fault, read


def env_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.env"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = env_file(tmp_path, "API_PORT=1\nRATE_LIMIT_PER_MINUTE=1\nMAX_CONNECTIONS=1\n")
    settings = read({**NEEDED, "API_PORT": "2", "RATE_LIMIT_PER_MINUTE": "2"}, env_file=path, API_PORT="3")
    assert settings.server.port == 3
    assert settings.limits.rate_limit_per_minute == 2
    assert settings.server.max_connections == 1


def test_an_empty_variable_hides_the_files_value(tmp_path: Path) -> None:
    assert read({**NEEDED, "API_PORT": ""}, env_file=env_file(tmp_path, "API_PORT=1\n")).server.port == 8000


def test_a_file_is_read_and_never_run(tmp_path: Path) -> None:
    text = (
        "\ufeff# a comment\n"
        f"export N8N_WEBHOOK_URL='{URL}?a=$HOME'\n"
        'ALLOWED_ORIGINS="https://a.example, https://b.example" # both\n'
        "API_PORT=9000 # here\nLOG_LEVEL=\nMAX_CONNECTIONS\nN8N_API_KEY=${N8N_WEBHOOK_URL}\n"
    )
    settings = read({}, env_file=env_file(tmp_path, text))
    bot = settings.upstream.bots["default"]
    assert bot.url == f"{URL}?a=$HOME"
    assert bot.api_key == "${N8N_WEBHOOK_URL}"
    assert bot.allowed_origins == ("https://a.example", "https://b.example")
    assert (settings.server.port, settings.log.level) == (9000, "WARNING")


def test_a_fault_names_its_source(tmp_path: Path) -> None:
    path = env_file(tmp_path, "MAX_CONNECTIONS=x\n")
    found = faults({**NEEDED, "LOG_LEVEL": "x"}, env_file=path, API_PORT="x")
    assert {fault.variable: fault.source for fault in found} == {
        "API_PORT": "--port",
        "LOG_LEVEL": "environment",
        "MAX_CONNECTIONS": str(path),
    }


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, env_file(tmp_path, "A=\udcff\n")):
        fault = one_fault(NEEDED, env_file=path)
        assert (fault.variable, fault.value) == ("--env-file", str(path)[:100] + ("…" if len(str(path)) > 100 else ""))


def test_a_line_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    fault = one_fault(NEEDED, env_file=env_file(tmp_path, "API_PORT=1\nLOG_LEVEL='INFO\n"))
    assert "line 2" in fault.problem


def test_secrets_and_addresses_may_come_from_files(tmp_path: Path) -> None:
    def kept(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return str(path)

    settings = read(
        {
            "N8N_WEBHOOK_URL_FILE": kept("url", f"{URL}\n"),
            "N8N_WEBHOOK_URL_SALES_FILE": kept("sales", "https://u:p@n8n.example/sales\r\n"),
            "N8N_API_KEY_SALES_FILE": kept("key", "sales-key"),
            "JWT_SECRET_KEY_FILE": kept("jwt", f"{KEYS[0]}\n"),
            "JWT_SECRET_KEY_PREVIOUS_FILE": kept("previous", KEYS[1]),
            "SESSION_SECRET_KEY_FILE": kept("session", KEYS[2]),
        }
    )
    assert settings.upstream.bots["default"].url == URL
    assert settings.upstream.bots["sales"].basic_auth == ("u", "p")
    assert settings.upstream.bots["sales"].api_key == "sales-key"
    assert settings.tokens.jwt_secrets == (KEYS[0], KEYS[1])
    assert settings.tokens.session_secret == KEYS[2]
    assert settings.warnings == ()


def test_a_variable_and_its_file_are_not_set_both(tmp_path: Path) -> None:
    path = tmp_path / "jwt"
    path.write_text(KEYS[0], "utf-8")
    both = {**NEEDED, "JWT_SECRET_KEY": KEYS[1], "JWT_SECRET_KEY_FILE": str(path)}
    assert one_fault(both).variable == "JWT_SECRET_KEY_FILE"
    # In another place it is no contradiction: the environment wins.
    file = env_file(tmp_path, f"JWT_SECRET_KEY={KEYS[1]}\n")
    settings = read({**NEEDED, "JWT_SECRET_KEY_FILE": str(path)}, env_file=file)
    assert settings.tokens.jwt_secrets == (KEYS[0],)


def test_a_named_file_that_does_not_serve_is_a_fault_that_names_it(tmp_path: Path) -> None:
    empty, large, binary = tmp_path / "empty", tmp_path / "large", tmp_path / "binary"
    empty.write_text("\n", "utf-8")
    large.write_bytes(b"x" * 70000)
    binary.write_bytes(b"\xff\xfe" * 20)
    for path in (tmp_path / "missing", tmp_path, empty, large, binary):
        fault = one_fault({**NEEDED, "JWT_SECRET_KEY_FILE": str(path)})
        assert fault.variable == "JWT_SECRET_KEY_FILE"
        assert fault.value is not None


def test_a_secret_in_the_place_of_a_path_is_not_shown() -> None:
    fault = one_fault({**NEEDED, "JWT_SECRET_KEY_FILE": KEYS[0]})
    assert fault.value is None
    assert KEYS[0] not in str(fault)
