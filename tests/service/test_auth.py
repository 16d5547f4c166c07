"""Who may ask for what: keys, scopes, rates, and what a browser may not do."""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select

from service import keys as keys_module
from service.auth import Caller, Keys, Rates, error_headers, requires
from service.errors import Forbidden, MissingKey, NotFound, ServiceError, TooMany, Unprocessable
from service.keys import FRESH_S, KEY, count_active, create_key, list_keys, revoke_key
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.tables import api_keys
from service.settings import Settings
from service.telemetry import Telemetry
from tests.service.runs.databases import BACKENDS, fresh_url

HERE = "http://127.0.0.1:8080"


class Clock:
    """A clock that the test moves."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class Client:
    """Asks an app in this process, one request at a time."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=HERE) as client:
                sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
                return await client.get(path, headers=sent)

        return asyncio.run(ask())


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        made = Database(url, durability="crash")
        try:
            migrate(made)
            yield made
        finally:
            made.close()


def made_key(database: Database, *scopes: str, tenant: str = "team-a", days: float | None = None) -> str:
    return database.write(lambda connection: create_key(connection, tenant, scopes, name="a test", expires_days=days))


def key_id(text: str) -> str:
    found = KEY.fullmatch(text)
    assert found is not None
    return found[1]


def app_of(database: Database, settings: Settings, keys: Keys | None = None) -> Client:
    app = FastAPI()
    app.state.settings, app.state.keys, app.state.telemetry = settings, keys or Keys(database), Telemetry()

    @app.exception_handler(ServiceError)
    async def refused(_request: Request, error: ServiceError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, headers=error_headers(error))

    def endpoint(scope: str) -> Any:
        async def answer(who: Annotated[Caller, Depends(requires(scope))]) -> dict[str, Any]:
            return {"tenant": who.tenant, "scopes": sorted(who.scopes), "key": who.key_id}

        return answer

    for scope in ("read", "solve", "admin"):
        app.get(f"/{scope}")(endpoint(scope))
    return Client(app)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


# ---------------------------------------------------------------- the store of keys


def test_only_a_hash_of_the_secret_is_stored(database: Database) -> None:
    text = made_key(database, "solve")
    secret = text.split("_", maxsplit=2)[2]
    assert KEY.fullmatch(text)
    row = database.read(lambda connection: connection.execute(select(api_keys)).mappings().one())
    assert row["hash"] == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(dict(row))
    assert row["id"] == key_id(text)
    [listed] = database.read(list_keys)
    assert (listed.tenant, listed.scopes, listed.name, listed.state(time.time())) == ("team-a", ("solve",), "a test", "active")
    assert secret not in repr(listed)


def test_two_keys_are_never_alike(database: Database) -> None:
    texts = {made_key(database, "read") for _ in range(20)}
    assert len({key_id(text) for text in texts}) == 20
    assert len({text.split("_", maxsplit=2)[2] for text in texts}) == 20


@pytest.mark.parametrize(
    ("tenant", "scopes", "name", "code"),
    [
        ("team-a", (), "", "unknown_scope"),
        ("team-a", ("root",), "", "unknown_scope"),
        ("", ("read",), "", "bad_tenant"),
        ("a b", ("read",), "", "bad_tenant"),
        ("../x", ("read",), "", "bad_tenant"),
        ("x" * 129, ("read",), "", "bad_tenant"),
        ("team-a", ("read",), "two\nlines", "bad_name"),
    ],
)
def test_a_key_that_cannot_be_is_refused(database: Database, tenant: str, scopes: tuple[str, ...], name: str, code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        database.write(lambda connection: create_key(connection, tenant, scopes, name=name))
    assert refused.value.code == code
    assert not database.read(list_keys)


def test_active_keys_are_counted(database: Database) -> None:
    assert database.read(count_active) == 0
    kept, revoked = made_key(database, "read"), made_key(database, "read")
    made_key(database, "read", days=-1.0)
    database.write(lambda connection: revoke_key(connection, key_id(revoked)))
    assert database.read(count_active) == 1
    states = {key.id: key.state(time.time()) for key in database.read(list_keys)}
    assert sorted(states.values()) == ["active", "expired", "revoked"]
    assert states[key_id(kept)] == "active"


def test_revoking_again_keeps_the_first_time_and_an_unknown_id_is_told(database: Database) -> None:
    text = made_key(database, "read")
    database.write(lambda connection: revoke_key(connection, key_id(text)))
    first = database.read(list_keys)[0].revoked_at
    database.write(lambda connection: revoke_key(connection, key_id(text)))
    assert database.read(list_keys)[0].revoked_at == first
    with pytest.raises(NotFound):
        database.write(lambda connection: revoke_key(connection, "0" * 16))


# ---------------------------------------------------------------- looking keys up


def test_scopes_include_those_before_them() -> None:
    allowed = {
        scope: [want for want in ("read", "solve", "admin") if Caller("t", frozenset({scope})).may(want)] for scope in keys_module.SCOPES
    }
    assert allowed == {"read": ["read"], "solve": ["read", "solve"], "admin": ["read", "solve", "admin"]}
    assert not Caller("t", frozenset()).may("read")


def test_a_revoked_key_stops_within_a_second(database: Database) -> None:
    text, clock = made_key(database, "solve"), Clock()
    settings = Settings(require_keys=True)
    client = app_of(database, settings, Keys(database, clock=clock))
    assert client.get("/read", headers=bearer(text)).json() == {"tenant": "team-a", "scopes": ["solve"], "key": key_id(text)}
    database.write(lambda connection: revoke_key(connection, key_id(text)))
    assert client.get("/read", headers=bearer(text)).status_code == 200  # what was read just now is still believed
    clock.at += FRESH_S
    assert FRESH_S < 1.0
    assert client.get("/read", headers=bearer(text)).status_code == 401


def test_a_new_key_works_although_it_was_tried_before(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    client = app_of(database, Settings(require_keys=True), Keys(database, clock=clock))
    monkeypatch.setattr(secrets, "token_hex", lambda _size: "0123456789abcdef")
    unknown = f"qm_0123456789abcdef_{'x' * 43}"
    assert client.get("/read", headers=bearer(unknown)).status_code == 401
    text = made_key(database, "read")
    clock.at += FRESH_S
    assert client.get("/read", headers=bearer(text)).status_code == 200
    assert client.get("/read", headers=bearer(unknown)).status_code == 401


def test_a_key_expires_even_while_it_is_remembered(database: Database) -> None:
    text, now = made_key(database, "read", days=1.0), Clock(time.time())
    client = app_of(database, Settings(require_keys=True), Keys(database, clock=Clock(), now=now))
    assert client.get("/read", headers=bearer(text)).status_code == 200
    now.at += 86_400 + 5
    assert client.get("/read", headers=bearer(text)).status_code == 401


def test_every_look_compares_once_whatever_is_known(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work for an unknown id, a wrong secret and a right one is the same: one hash, one comparison in constant time."""
    text = made_key(database, "read")
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def counting(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return bool(real(left, right))

    monkeypatch.setattr(hmac, "compare_digest", counting)
    client = app_of(database, Settings(require_keys=True))
    wrong = [f"{text[:-1]}{'A' if text[-1] != 'A' else 'B'}", f"qm_{'0' * 16}_{'x' * 43}", "nonsense", "qm_", "ü" * 5]
    for tried in wrong:
        assert client.get("/read", headers={"X-API-Key": tried}).status_code == 401
    assert client.get("/read", headers={"X-API-Key": text}).status_code == 200
    assert compared == [(64, 64)] * (len(wrong) + 1)


def test_unknown_ids_do_not_fill_the_memory(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MOST_KEPT", 3)
    keys = Keys(database)
    client = app_of(database, Settings(require_keys=True), keys)
    for number in range(6):
        assert client.get("/read", headers=bearer(f"qm_{number:016x}_{'x' * 43}")).status_code == 401
    assert keys.remembered == 3


# ---------------------------------------------------------------- requests


def test_without_a_key_where_keys_are_required(database: Database) -> None:
    answer = app_of(database, Settings(require_keys=True)).get("/read")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == MissingKey.code
    assert "quartermaster keys create" in answer.json()["detail"]


@pytest.mark.parametrize("header", ["Basic dTpw", "Bearer", "Bearer ", "qm_0123456789abcdef_x"])
def test_a_header_of_another_form_is_refused_even_where_no_key_is_needed(database: Database, header: str) -> None:
    answer = app_of(database, Settings()).get("/read", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "key_refused")


def test_a_wrong_key_is_refused_even_where_none_is_needed(database: Database) -> None:
    answer = app_of(database, Settings()).get("/read", headers=bearer(f"qm_{'0' * 16}_{'x' * 43}"))
    assert (answer.status_code, answer.json()["code"]) == (401, "key_refused")


def test_a_right_key_counts_where_none_is_needed(database: Database) -> None:
    text = made_key(database, "read", tenant="team-b")
    client = app_of(database, Settings())
    assert client.get("/read", headers=bearer(text)).json()["tenant"] == "team-b"
    refused = client.get("/solve", headers=bearer(text))
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert "--tenant team-b --scope solve" in refused.json()["detail"]


def test_anonymous_on_loopback_may_do_everything(database: Database) -> None:
    answer = app_of(database, Settings()).get("/admin").json()
    assert answer == {"tenant": "default", "scopes": ["admin", "read", "solve"], "key": None}


def test_an_unknown_scope_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="no scope"):
        requires("everything")


# ---------------------------------------------------------------- browsers


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:8080", "127.9.9.9", "qm.localhost:8080"]
)
def test_loopback_names_are_served(database: Database, host: str) -> None:
    assert app_of(database, Settings()).get("/read", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "10.0.0.1", "[fe80::1]", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
def test_another_name_for_this_machine_is_refused(database: Database, host: str) -> None:
    answer = app_of(database, Settings()).get("/read", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (403, "host_refused")


def test_any_name_will_do_with_a_key(database: Database) -> None:
    text = made_key(database, "read")
    client = app_of(database, Settings(host="0.0.0.0"))  # noqa: S104  (nothing listens)
    assert client.get("/read", headers={"Host": "solver.example", **bearer(text)}).status_code == 200
    assert client.get("/read", headers={"Host": "solver.example"}).status_code == 401


@pytest.mark.parametrize(
    ("origin", "status"), [(HERE, 200), ("http://evil.example", 403), ("http://127.0.0.1:9", 403), ("null", 403), ("http://[", 400)]
)
def test_a_page_of_another_origin_is_refused(database: Database, origin: str, status: int) -> None:
    assert app_of(database, Settings()).get("/solve", headers={"Origin": origin}).status_code == status


# ---------------------------------------------------------------- rates


def test_a_rate_is_kept_per_key_and_told(database: Database) -> None:
    one, two = made_key(database, "read"), made_key(database, "read")
    client = app_of(database, Settings(rate_per_minute=3))
    assert [client.get("/read", headers=bearer(one)).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert client.get("/read", headers=bearer(two)).status_code == 200
    refused = client.get("/read", headers=bearer(one))
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert client.get("/read").status_code == 200  # an address without a key is counted apart
    telemetry: Telemetry = client.app.state.telemetry
    assert telemetry.registry.get_sample_value("quartermaster_rate_limited_total") == 2


def test_wrong_keys_use_up_the_rate_of_their_address(database: Database) -> None:
    client = app_of(database, Settings(require_keys=True, rate_per_minute=2))
    tried = bearer(f"qm_{'0' * 16}_{'x' * 43}")
    assert [client.get("/read", headers=tried).status_code for _ in range(3)] == [401, 401, 429]


def test_what_is_left_is_told() -> None:
    rates = Rates(2)
    first = rates.take("x")
    assert first is not None
    assert (first.limit, first.remaining) == (2, 1)
    rates.take("x")
    with pytest.raises(TooMany) as refused:
        rates.take("x")
    assert refused.value.retry_after_s is not None
    assert 1 <= refused.value.retry_after_s <= 60


def test_without_a_limit_nothing_is_counted() -> None:
    rates = Rates(None)
    assert [rates.take("x") for _ in range(100)] == [None] * 100


def test_headers_of_errors() -> None:
    assert error_headers(TooMany("x", retry_after_s=0.2)) == {"Retry-After": "1"}
    assert error_headers(Forbidden("x")) == {}
    assert re.match("Bearer", error_headers(MissingKey("x"))["WWW-Authenticate"])
