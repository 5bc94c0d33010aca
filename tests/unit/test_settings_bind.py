"""Guards CONTRACT §1 and §2: every form of OLLAMA_HOST, and the ports that are not ours."""

from __future__ import annotations

import pytest

from arasul_supervisor.settings import Settings, SettingsError, load_settings
from arasul_supervisor.settings.bind import binds_overlap


def load(**environ: str) -> Settings:
    return load_settings({"HOME": "/home/u", **environ})


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        load(**environ)
    return raised.value.problems


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0", "0.0.0.0", 11434),
        ("127.0.0.1", "127.0.0.1", 11434),
        ("127.0.0.1:9999", "127.0.0.1", 9999),
        (":9999", "0.0.0.0", 9999),
        ("localhost", "localhost", 11434),
        ("box-1.local:80", "box-1.local", 80),
        ("::1", "::1", 11434),
        ("[::1]", "::1", 11434),
        ("[::1]:9999", "::1", 9999),
        ("::", "::", 11434),
        ("[0:0::0]:9999", "::", 9999),
        ("http://127.0.0.1:9999", "127.0.0.1", 9999),
        ("http://0.0.0.0:9999/", "0.0.0.0", 9999),
        ('"127.0.0.1:9999"', "127.0.0.1", 9999),
    ],
)
def test_the_engine_bind_is_understood_in_every_form(text: str, host: str, port: int) -> None:
    settings = load(OLLAMA_HOST=text)

    assert (settings.engine_host, settings.engine_port) == (host, port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://127.0.0.1", "read a URL without a port as port 80"),
        ("http://[::1]/", "read a URL without a port as port 80"),
        ("https://127.0.0.1:11434", "plain HTTP only"),
        ("127.0.0.1:99999", "from 1 to 65535"),
        ("127.0.0.1:0", "from 1 to 65535"),
        ("127.0.0.1:", "from 1 to 65535"),
        ("127.0.0.1:http", "from 1 to 65535"),
        ("[::1]x", "from 1 to 65535"),
        ("127.0.0.1:11435", "port 11435 belongs to another service"),
        ("11434", "no IP address or host name"),
        ("256.0.0.1", "no IP address or host name"),
        ("[localhost]:1", "no IP address or host name"),
        ("*:11434", "no IP address or host name"),
        ("two words", "no IP address or host name"),
        ("127.0.0.1:11434/path", "takes no path"),
        ("http://me:secret@127.0.0.1:11434", "takes no user name"),
    ],
)
def test_an_engine_bind_that_ollama_would_misread_is_refused_with_the_reason(text: str, reason: str) -> None:
    (problem,) = problems(OLLAMA_HOST=text)

    assert reason in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("::", "http://[::1]:11434"),
        ("[::1]:9999", "http://[::1]:9999"),
        ("192.168.1.5:9999", "http://192.168.1.5:9999"),
        ("localhost:9999", "http://localhost:9999"),
    ],
)
def test_the_daemon_reaches_a_wildcard_bind_over_loopback(text: str, url: str) -> None:
    assert load(OLLAMA_HOST=text).engine_url == url


@pytest.mark.parametrize(
    ("text", "url", "is_loopback"),
    [
        ("127.0.0.1", "http://127.0.0.1:11436", True),
        ("localhost", "http://localhost:11436", True),
        ("::1", "http://[::1]:11436", True),
        ("[::]", "http://[::1]:11436", False),
        ("0.0.0.0", "http://127.0.0.1:11436", False),
        ("10.0.0.7", "http://10.0.0.7:11436", False),
    ],
)
def test_the_management_bind_says_where_it_is_reached(text: str, url: str, is_loopback: bool) -> None:
    settings = load(ARASUL_HOST=text)

    assert (settings.url, settings.is_loopback_bind) == (url, is_loopback)


def test_a_management_host_with_a_port_is_refused() -> None:
    (problem,) = problems(ARASUL_HOST="127.0.0.1:11436")

    assert "without a port" in problem


def test_port_11435_is_refused_for_both_ports() -> None:
    found = problems(ARASUL_PORT="11435", OLLAMA_HOST=":11435")

    assert [sentence.split()[0] for sentence in found] == ["OLLAMA_HOST", "ARASUL_PORT"]


def test_one_port_for_both_on_overlapping_binds_is_refused() -> None:
    (problem,) = problems(ARASUL_PORT="11434")

    assert problem.startswith("ARASUL_PORT is 11434, but the engine listens on 0.0.0.0:11434 (OLLAMA_HOST)")


def test_one_port_for_both_on_different_addresses_is_fine() -> None:
    settings = load(ARASUL_PORT="11434", OLLAMA_HOST="192.168.1.5")

    assert settings.port == settings.engine_port


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),  # dual-stack
        ("::1", "0.0.0.0", False),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "10.0.0.1", False),
        ("localhost", "127.0.0.1", True),  # a name may mean any address
    ],
)
def test_binds_overlap_when_both_may_claim_one_port(one: str, other: str, overlap: bool) -> None:
    assert binds_overlap(one, other) is overlap
    assert binds_overlap(other, one) is overlap
