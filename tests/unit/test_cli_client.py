"""Guards how the command line finds its daemon."""

from __future__ import annotations

from argparse import Namespace

import pytest

from arasul_supervisor.cli.client import BadUrl, Daemon, daemon_of


@pytest.mark.parametrize(
    ("given", "url"),
    [
        pytest.param("http://box:11436", "http://box:11436", id="a URL"),
        pytest.param("http://box:11436/", "http://box:11436", id="a slash at the end"),
        pytest.param("https://box/arasul", "https://box/arasul", id="behind a proxy's path"),
        pytest.param("box:11436", "http://box:11436", id="no scheme"),
        pytest.param("[::1]:11436", "http://[::1]:11436", id="IPv6"),
    ],
)
def test_an_address_is_taken_in_the_usual_spellings(given: str, url: str) -> None:
    assert Daemon(given).url == url


@pytest.mark.parametrize(
    "given",
    ["ftp://box", "http://", "http://box:port", "http://box:99999", "http://[::1", "http://box?x=1"],
)
def test_what_is_no_address_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(BadUrl, match=r"an example: http://127\.0\.0\.1:11436"):
        Daemon(given)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadUrl) as refusal:
        Daemon("http://me:secret@box:11436")

    assert "secret" not in refusal.value.sentence


@pytest.mark.parametrize(
    ("given", "environ", "url"),
    [
        pytest.param(None, {}, "http://127.0.0.1:11436", id="nothing said"),
        pytest.param(None, {"ARASUL_URL": "http://a:1"}, "http://a:1", id="the variable"),
        pytest.param(None, {"ARASUL_URL": " "}, "http://127.0.0.1:11436", id="a blank variable is unset"),
        pytest.param("http://b:2", {"ARASUL_URL": "http://a:1"}, "http://b:2", id="the option wins"),
        pytest.param(
            None,
            {"ARASUL_PORT": "12000", "ARASUL_HOST": "0.0.0.0"},
            "http://127.0.0.1:12000",
            id="a moved port",
        ),
        pytest.param(None, {"ARASUL_HOST": "10.0.0.5"}, "http://10.0.0.5:11436", id="one interface"),
        pytest.param(None, {"ARASUL_HOST": "fd00::5"}, "http://[fd00::5]:11436", id="one IPv6 interface"),
        pytest.param(None, {"ARASUL_HOST": "[::]"}, "http://127.0.0.1:11436", id="the IPv6 wildcard"),
    ],
)
def test_the_daemon_is_found_by_option_variable_or_its_own_settings(
    given: str | None, environ: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ARASUL_URL", "ARASUL_HOST", "ARASUL_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert daemon_of(Namespace(url=given)).url == url
