"""The settings of PostgreSQL mode: addresses of databases, what must be set, what is warned of, what is never shown."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.settings import Fault, PostgresSettings, Settings, SettingsError, load_postgres
from chatcore.settings.databases import POSTGRES, REDIS
from chatcore.settings.faults import BadValueError
from tests.support import told
from tests.support.told import DATABASES, KEYS, NEEDED_BY

NEEDED = NEEDED_BY["postgres"]
URLS = ("DATABASE_URL", "DATABASE_ADMIN_URL", "DATABASE_READ_URL")
ADMIN = "postgresql://owner:pw@db.example.com/chat"
MARK = "S3cretMark"


def read(**environ: str) -> tuple[Settings, PostgresSettings]:
    settings = told.read({**NEEDED, **environ}, mode="postgres")
    assert settings.postgres is not None
    return settings, settings.postgres


def one_fault(**environ: str) -> Fault:
    return told.one_fault({**NEEDED, **environ}, mode="postgres")


def commanded(environ: dict[str, str], **overrides: str) -> PostgresSettings:
    return load_postgres(environ, env_file=None, overrides=overrides)


def test_two_addresses_and_two_keys_suffice() -> None:
    _, databases = read()
    url = "postgresql://app:pw@db.example.com/chat"
    assert (databases.url, databases.admin_url, databases.read_url) == (url, url, url)
    assert databases.redis_url == "redis://redis.example.com:6379/0"
    assert databases == PostgresSettings(
        url=url,
        admin_url=url,
        read_url=url,
        redis_url=databases.redis_url,
        jwt_secrets=(KEYS[0],),
    )


@pytest.mark.parametrize("mode", ["stateless", "sqlite"])
def test_other_modes_have_none_of_it_and_do_not_mind(mode: Any, tmp_path: Path) -> None:
    files = {f"{name}_FILE": "/nowhere" for name in (*URLS, "REDIS_URL", "AUDIT_KEY")}
    environ = {
        **told.NEEDED,
        "JWT_SECRET_KEY": KEYS[0],
        "SESSION_SECRET_KEY": KEYS[1],
        "SQLITE_DB_PATH": str(tmp_path / "chat.db"),
    }
    settings = told.read({**environ, **files, "DATABASE_PREPARE": "true"}, mode=mode)
    assert settings.postgres is None
    assert not settings.warnings


def test_what_is_set_is_taken() -> None:
    settings, databases = read(
        DATABASE_ADMIN_URL=ADMIN,
        DATABASE_READ_URL="postgres://reader@replica/chat",
        DATABASE_POOL_SIZE="25",
        DATABASE_PREPARE="yes",
        PERSIST_STRICT="on",
        SPOOL_PATH="/var/lib/chatcore/spool.db",
        SPOOL_MAX_BYTES="1048576",
        AUDIT_KEY=KEYS[2],
        CLEANUP_INTERVAL_HOURS="1",
        MESSAGE_RETENTION_DAYS="30",
        ANALYTICS_RETENTION_DAYS="90",
        SESSION_MAX_DAYS="40",
        JWT_SECRET_KEY_PREVIOUS=KEYS[3],
    )
    assert databases == PostgresSettings(
        url=NEEDED["DATABASE_URL"],
        admin_url=ADMIN,
        read_url="postgresql://reader@replica/chat",
        redis_url=NEEDED["REDIS_URL"],
        pool_size=25,
        prepare=True,
        persist_strict=True,
        spool_path=Path("/var/lib/chatcore/spool.db"),
        spool_max_bytes=1 << 20,
        audit_key=KEYS[2],
        jwt_secrets=(KEYS[0], KEYS[3]),
        cleanup_interval_hours=1.0,
        message_retention_days=30.0,
        analytics_retention_days=90.0,
        erased_days=41.0,
    )
    assert not settings.warnings


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgresql://a:b@h:5432/d", "postgresql://a:b@h:5432/d"),
        ("postgres://a:b@H.Example/d", "postgresql://a:b@h.example/d"),
        ("postgresql+psycopg://a:b@h/d", "postgresql://a:b@h/d"),
        ("PostgreSQL://a@h/d", "postgresql://a@h/d"),
        ("postgresql://a:b:c%40%2F%25@h/d", "postgresql://a:b:c%40%2F%25@h/d"),
        ("postgresql://a:b@h1:5432,h2,[::1]:5433/d", "postgresql://a:b@h1:5432,h2,[::1]:5433/d"),
        ("postgresql://a@%2Fvar%2Frun%2Fpostgresql/d", "postgresql://a@%2Fvar%2Frun%2Fpostgresql/d"),
        ("postgresql://a:b@/d?host=/var/run/postgresql", "postgresql://a:b@/d?host=/var/run/postgresql"),
        (
            "postgresql://a:b@h/d?sslmode=verify-full&sslrootcert=/etc/ca.pem&target_session_attrs=read-write",
            "postgresql://a:b@h/d?sslmode=verify-full&sslrootcert=/etc/ca.pem&target_session_attrs=read-write",
        ),
    ],
)
def test_an_address_of_postgresql_is_taken_as_libpq_reads_it(text: str, url: str) -> None:
    assert POSTGRES.parse(text) == url


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("db.example.com/chat", "does not begin with postgresql://"),
        ("postgresql+asyncpg://a:b@h/d", "does not begin with postgresql://"),
        ("mysql://a:b@h/d", "does not begin with postgresql://"),
        ("jdbc:postgresql://h/d", "does not begin with postgresql://"),
        ("host=h user=a dbname=d", "does not begin with postgresql://"),
        ("postgresql://h/d", "names no user"),
        ("postgresql://:b@h/d", "names no user"),
        ("postgresql://a:b@h", "names no database"),
        ("postgresql://a:b@h/", "names no database"),
        ("postgresql://a:b@h/d/e", "more than the database's name"),
        ("postgresql://a:b@/d", "has no host"),
        ("postgresql://a:b@h1,/d", "has no host"),
        ("postgresql://a:b@h:port/d", "port that is no number"),
        ("postgresql://a:b@h:0/d", "out of range"),
        ("postgresql://a:b@h/d?schema=public", "not known: schema"),
        ("postgresql://a:b@h/d?user=x", "not known: user"),
        ("postgresql://a:b@h/d?sslmode", "without one value"),
        ("postgresql://a:b@h/d?sslmode=true", "none of disable"),
        ("postgresql://a:b@h/d?sslmode=require&sslmode=disable", "twice"),
        ("postgresql://a:b@c@h/d", "write %40"),
        ("postgresql://a:b/c@h/d", "write %40"),
        ("postgresql://a:b?c@h/d", "write %40"),
        ("postgresql://a:b#c@h/d", "write %40"),
        ("postgresql://a:b@h/d#x", "write %40"),
        ("postgresql://a:b%c@h/d", "written %25"),
        ("postgresql://a:b%00@h/d", "control characters"),
        ("postgresql://a:b%ff@h/d", "not percent-encoded UTF-8"),
        ("postgresql://a:b@h/d%0a", "control characters"),
        ("postgresql://a:ä@h/d", "no address may hold"),
        ("postgresql://a:b c@h/d", "no address may hold"),
    ],
)
def test_an_address_that_libpq_would_misread_is_refused(name: str, text: str, problem: str) -> None:
    fault = one_fault(**{name: text})
    assert fault.variable == name
    assert problem in fault.problem
    assert POSTGRES.parse(fault.example.removeprefix(f"{name}="))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://h", "redis://h/0"),
        ("redis://h:6380/2", "redis://h:6380/2"),
        ("redis://:pw@H/", "redis://:pw@h/0"),
        ("rediss://u:p%40@h:6379/0", "rediss://u:p%40@h:6379/0"),
        ("rediss://h/0?ssl_ca_certs=/etc/ca.pem", "rediss://h/0?ssl_ca_certs=/etc/ca.pem"),
        ("redis+sentinel://h1:26379,h2:26379/mymaster", "redis+sentinel://h1:26379,h2:26379/mymaster/0"),
        (
            "redis+sentinel://:p@h1,h2/m?ssl=true&ssl_ca_certs=/ca.pem&sentinel_password=q",
            "redis+sentinel://:p@h1,h2/m/0?ssl=true&ssl_ca_certs=/ca.pem&sentinel_password=q",
        ),
        ("redis+sentinel://u:p@[::1]:26379/my-master/3", "redis+sentinel://u:p@[::1]:26379/my-master/3"),
    ],
)
def test_an_address_of_redis_is_taken_and_completed(text: str, url: str) -> None:
    assert REDIS.parse(text) == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("h:6379", "does not begin with redis://"),
        ("http://h:6379", "does not begin with redis://"),
        ("redis://", "has no host"),
        ("redis://pw@h", "written :password@"),
        ("redis://h1,h2/0", "only redis+sentinel:// may"),
        ("redis://h/zero", "no number"),
        ("redis://h/-1", "no number"),
        ("redis://h/0/1", "no number"),
        ("redis://h/0?ssl_ca_certs=/etc/ca.pem", "not known: ssl_ca_certs"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "none of none, optional, required"),
        ("rediss://h/0?socket_timeout=5", "not known: socket_timeout"),
        ("rediss://h/0?ssl=true", "not known: ssl"),
        ("redis+sentinel://h1/m?ssl_ca_certs=/ca.pem", "nothing would be encrypted"),
        ("redis+sentinel://h1/m?ssl=false&ssl_ca_certs=/ca.pem", "nothing would be encrypted"),
        ("redis+sentinel://h1,h2", "does not name the master"),
        ("redis+sentinel://h1,h2/m/x", "no number"),
        ("redis+sentinel://h1,/m", "has no host"),
        ("redis://:a@b@h", "write %40"),
        ("redis://:a/b@h", "write %40"),
        ("redis://:a%@h", "written %25"),
    ],
)
def test_an_address_of_redis_that_would_be_misread_is_refused(text: str, problem: str) -> None:
    fault = one_fault(REDIS_URL=text)
    assert fault.variable == "REDIS_URL"
    assert problem in fault.problem
    assert REDIS.parse(fault.example.removeprefix("REDIS_URL="))


@given(st.text(max_size=40), st.sampled_from([POSTGRES, REDIS]))
def test_no_text_makes_reading_an_address_fail(text: str, form: Any) -> None:
    for scheme in ("", "postgresql://", "redis://", "redis+sentinel://"):
        try:
            taken = form.parse(scheme + text)
        except BadValueError:
            continue
        assert form.parse(taken) == taken, "what was normalised stays as it is"


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "JWT_SECRET_KEY", "SESSION_SECRET_KEY"])
@pytest.mark.parametrize("demo", [False, True])
def test_what_all_instances_need_must_be_set(name: str, *, demo: bool) -> None:
    without = {known: value for known, value in NEEDED.items() if known != name}
    fault = told.one_fault(without, mode="postgres", demo=demo)
    assert fault.variable == name
    assert fault.problem.startswith("is not set")
    made = "$(python3 -c 'import secrets; print(secrets.token_hex(32))')"
    assert fault.example in {
        f"DATABASE_URL={POSTGRES.example}",
        f"REDIS_URL={REDIS.example}",
        f"export {name}={made}",
    }


def test_a_wrong_key_is_not_said_to_be_missing_too() -> None:
    assert one_fault(JWT_SECRET_KEY="short").variable == "JWT_SECRET_KEY"
    assert one_fault(DATABASE_URL="short").variable == "DATABASE_URL"


def test_all_faults_are_told_at_once() -> None:
    wrong = {**dict.fromkeys((*URLS, "REDIS_URL", "AUDIT_KEY", *BAD), "x"), "SPOOL_PATH": "."}
    found = told.faults({**told.NEEDED, **wrong}, mode="postgres")
    assert {fault.variable for fault in found} == {*wrong, "JWT_SECRET_KEY", "SESSION_SECRET_KEY"}


BAD = {
    "DATABASE_POOL_SIZE": "1 501 ten 2.5",
    "DATABASE_PREPARE": "maybe",
    "PERSIST_STRICT": "2",
    "SPOOL_PATH": "data/ . :memory: file:spool.db",
    "SPOOL_MAX_BYTES": "0 1048575 1GiB 1099511627777",
    "CLEANUP_INTERVAL_HOURS": "0 8761",
    "MESSAGE_RETENTION_DAYS": "0 0.5 36501 -1 nan",
    "ANALYTICS_RETENTION_DAYS": "0 36501",
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts.split()])
def test_a_value_out_of_its_form_is_refused(name: str, text: str) -> None:
    fault = one_fault(**{name: text})
    assert (fault.variable, fault.value) == (name, text)
    read(**{name: fault.example.partition("=")[2]})


@pytest.mark.parametrize("name", [*URLS, "REDIS_URL", "AUDIT_KEY"])
def test_what_holds_a_secret_may_come_from_a_file(name: str, tmp_path: Path) -> None:
    value = {**DATABASES, "AUDIT_KEY": KEYS[2]}.get(name, ADMIN)
    (tmp_path / "secret").write_text(f"{value}\n", "utf-8")
    environ = {known: text for known, text in NEEDED.items() if known != name}
    settings = told.read({**environ, f"{name}_FILE": str(tmp_path / "secret")}, mode="postgres").postgres
    assert settings is not None
    assert value in {getattr(settings, field) for field in settings.__struct_fields__}


@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "SESSION_SECRET_KEY", "METRICS_TOKEN", "N8N_API_KEY"])
def test_the_key_of_the_audit_log_is_used_for_nothing_else(name: str) -> None:
    fault = one_fault(**{name: KEYS[2], "AUDIT_KEY": KEYS[2]})
    assert "is equal to" in fault.problem
    assert "AUDIT_KEY" in str(fault)


@pytest.mark.parametrize("text", ["x" * 31, "your-audit-key-of-at-least-32-characters"])
def test_a_weak_key_of_the_audit_log_is_refused(text: str) -> None:
    fault = one_fault(AUDIT_KEY=text)
    assert (fault.variable, fault.value) == ("AUDIT_KEY", None)
    assert text not in repr(fault)


def test_what_weakens_the_audit_log_is_warned_of() -> None:
    settings, _ = read()
    key, role = settings.warnings
    assert key.startswith("AUDIT_KEY is not set: it is derived from JWT_SECRET_KEY")
    assert role.startswith("DATABASE_ADMIN_URL is not set")
    settings, _ = read(AUDIT_KEY=KEYS[2], DATABASE_ADMIN_URL="postgresql://app:other@elsewhere/chat")
    (role,) = settings.warnings
    assert "has the user of DATABASE_URL" in role


def test_pools_need_descriptors() -> None:
    few, many = (read(DATABASE_POOL_SIZE=size)[0].server.descriptors_wanted for size in ("10", "110"))
    plain = told.read(told.NEEDED).server.descriptors_wanted
    assert many - few == 200
    assert few > plain + 20


SECRETS = {
    "DATABASE_URL": f"postgresql://app:{MARK}@db/chat?sslpassword={MARK}",
    "DATABASE_ADMIN_URL": f"postgresql://owner:{MARK}@db/chat",
    "DATABASE_READ_URL": f"postgresql://reader:{MARK}@db/chat",
    "REDIS_URL": f"rediss://:{MARK}@redis/0?ssl_password={MARK}",
    "AUDIT_KEY": f"{MARK}-with-enough-bytes-to-be-taken-as-a-key",
    "JWT_SECRET_KEY": f"{MARK}-another-with-enough-bytes-to-be-taken",
}


def test_settings_never_show_a_secret() -> None:
    settings, databases = read(**SECRETS)
    commands = commanded(SECRETS)
    assert databases.url == SECRETS["DATABASE_URL"]
    assert commands.jwt_secrets == databases.jwt_secrets == (SECRETS["JWT_SECRET_KEY"],)
    assert MARK not in repr([settings, databases, commands]) + str(databases) + str(databases.__rich_repr__())
    assert MARK not in " ".join(settings.warnings)


@pytest.mark.parametrize(
    "text",
    [
        *("{}\n", " {}", "{}ä", "{}#x", "{}/x", "x{}", "{}&a", "{}&a=b", "{}&" + MARK + "=x", "\udcff{}"),
    ],
)
def test_faults_never_show_a_secret_of_a_spoiled_address(text: str) -> None:
    wrong = {name: text.format(value) for name, value in SECRETS.items()}
    with pytest.raises(SettingsError) as refused:
        told.read({**NEEDED, **wrong}, mode="postgres")
    assert MARK not in repr(refused.value.faults) + str(refused.value) + repr(refused.value.warnings)


@pytest.mark.parametrize(
    "text",
    [
        f"host=db user=app password={MARK} dbname=chat",
        f"host=db password={MARK}\n",
        f"password={MARK} host=db sslmode=require?",
        f"postgresql://app:{MARK}/x@db/chat",
        f"postgresql://app:{MARK}@x@db/chat",
        f"postgresql://app:{MARK}?@db/chat",
        f"postgresql://app:{MARK}#@db/chat",
        f"postgresql://app:{MARK}",
        f"postgresql://app:%{MARK}@db/chat",
        f"postgresql://db/chat?user=app&password={MARK}",
        f"jdbc:postgresql://db/chat?user=app&password={MARK}",
        f"redis://{MARK}@redis:6379",
        f"redis://:{MARK}",
        f"redis:{MARK}@redis",
    ],
)
def test_an_address_is_shown_without_what_may_be_a_password(text: str) -> None:
    found = told.faults({**NEEDED, **dict.fromkeys((*URLS, "REDIS_URL"), text)}, mode="postgres")
    assert {fault.variable for fault in found} == {*URLS, "REDIS_URL"}
    assert MARK not in repr(found) + " ".join(map(str, found))


def test_commands_need_the_database_alone() -> None:
    settings = commanded({"DATABASE_URL": DATABASES["DATABASE_URL"], "SESSION_MAX_DAYS": "20"})
    assert settings.url == settings.admin_url == settings.read_url == DATABASES["DATABASE_URL"]
    assert (settings.redis_url, settings.jwt_secrets, settings.audit_key) == ("", (), None)
    assert settings.erased_days == 21


def test_commands_get_the_keys_that_sign_tokens() -> None:
    keys = {"JWT_SECRET_KEY": KEYS[0], "JWT_SECRET_KEY_PREVIOUS": KEYS[1]}
    assert commanded({**DATABASES, **keys}).jwt_secrets == (KEYS[0], KEYS[1])
    without = commanded({**DATABASES, "JWT_SECRET_KEY_PREVIOUS": KEYS[1]})
    assert without.jwt_secrets == (), "a former key does not pass for the present one"


def test_commands_refuse_what_a_start_refuses() -> None:
    with pytest.raises(SettingsError) as refused:
        commanded({"REDIS_URL": "h", "AUDIT_KEY": "short", "JWT_SECRET_KEY": "short", "DATABASE_POOL_SIZE": "0"})
    names = {"DATABASE_URL", "REDIS_URL", "AUDIT_KEY", "JWT_SECRET_KEY", "DATABASE_POOL_SIZE"}
    assert {fault.variable for fault in refused.value.faults} == names
