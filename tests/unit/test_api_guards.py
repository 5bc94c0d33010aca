"""CONTRACT §4, "Browsers": which Host and which Origin may speak to us."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from arasul_supervisor.api.guards import Guard
from arasul_supervisor.errors import ForbiddenHost, ForbiddenOrigin
from arasul_supervisor.settings import load_settings


def guard(**env: str) -> Guard:
    return Guard(load_settings({"HOME": "/nonexistent", **env}))


def headers(**values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in values.items()}))


LOCAL_HOSTS = (
    "",
    "localhost",
    "localhost:11436",
    "LOCALHOST:11436",
    "127.0.0.1:11436",
    "127.8.9.1",
    "[::1]:11436",
    "10.1.2.3",
    "192.168.1.5:80",
    "0.0.0.0",
    "box.local",
    "llm.internal:11436",
    "a.localhost",
    "localhost.",
)


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_a_local_name_passes_on_a_loopback_bind(host: str) -> None:
    guard().check_host(host)


FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:11436",
    "localhost.evil.example",
    "local",
    "8.8.8.8",
    "[2001:4860::1]",
    "127.0.0.1.nip.io",
    "[",
    "a:b:c",
    ":::",
    "\udcff",
)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_any_other_name_is_forbidden_on_a_loopback_bind(host: str) -> None:
    with pytest.raises(ForbiddenHost):
        guard().check_host(host)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_any_name_passes_on_a_wildcard_bind(host: str) -> None:
    guard(ARASUL_HOST="0.0.0.0").check_host(host)


def test_remembered_hosts_do_not_grow_without_end() -> None:
    busy = guard()

    for number in range(10_000):
        busy.check_host(f"host{number}.local")

    assert len(busy._admitted_hosts) <= 64


ADMITTED = (
    "http://localhost",
    "http://localhost:3000",
    "https://127.0.0.1:8443",
    "http://[::1]:3000",
    "http://0.0.0.0:8080",
    "http://192.168.1.5:11436",
    "http://box.local:11436",
)


@pytest.mark.parametrize("origin", ADMITTED)
def test_a_page_of_this_machine_may_change_things(origin: str) -> None:
    host = origin.partition("//")[2]

    guard(ARASUL_HOST="0.0.0.0").check_origin("POST", headers(Origin=origin, Host=host))


FOREIGN = (
    "http://evil.example",
    "https://evil.example:11436",
    "http://localhost.evil.example",
    "http://localhost@evil.example",
    "http://192.168.1.6:11436",
    "null",
    "",
    "file://",
    "app://localhost",
    "localhost",
    "http://[",
)


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_a_foreign_page_may_change_nothing(origin: str, method: str) -> None:
    with pytest.raises(ForbiddenOrigin):
        guard().check_origin(method, headers(Origin=origin, Host="192.168.1.5:11436"))


def test_a_rebound_name_is_foreign_although_it_is_the_host_itself() -> None:
    with pytest.raises(ForbiddenOrigin):
        guard(ARASUL_HOST="0.0.0.0").check_origin(
            "POST", headers(Origin="http://evil.example:11436", Host="evil.example:11436")
        )


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_may_ask_without_reading_the_answer(origin: str) -> None:
    asked = headers(Origin=origin, Host="localhost")

    guard().check_origin("GET", asked)

    assert "Access-Control-Allow-Origin" not in guard().cors_headers(asked)


@pytest.mark.parametrize("setting", ["https://ui.example", "https://UI.example,http://b.example", "*"])
def test_arasul_origins_admits_a_foreign_page(setting: str) -> None:
    asked = headers(Origin="https://ui.example", Host="localhost")

    guard(ARASUL_ORIGINS=setting).check_origin("POST", asked)

    assert (
        guard(ARASUL_ORIGINS=setting).cors_headers(asked)["Access-Control-Allow-Origin"]
        == "https://ui.example"
    )


def test_a_call_without_an_origin_is_no_page_and_passes() -> None:
    guard().check_origin("POST", headers(Host="localhost"))
