"""Guards where a registry is asked for a manifest, by which way, and how long it asks to wait."""

from __future__ import annotations

import pytest
from yarl import URL

from arasul_supervisor.ollama.pulls.registry import manifest_url, wait_asked
from arasul_supervisor.ollama.pulls.registry_route import proxy_for

NOW = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("tiny", "https://registry.ollama.ai/v2/library/tiny/manifests/latest"),
        ("Qwen3:14B-q8_0", "https://registry.ollama.ai/v2/library/Qwen3/manifests/14B-q8_0"),
        ("me/tiny:v1", "https://registry.ollama.ai/v2/me/tiny/manifests/v1"),
        ("hf.co/Me/Tiny-GGUF:Q4_K_M", "https://hf.co/v2/Me/Tiny-GGUF/manifests/Q4_K_M"),
        ("127.0.0.1:5000/library/tiny", "https://127.0.0.1:5000/v2/library/tiny/manifests/latest"),
        ("http://10.0.0.1/library/tiny:v1", "https://10.0.0.1/v2/library/tiny/manifests/v1"),
    ],
)
def test_the_manifest_is_asked_for_where_ollama_asks_for_it(name: str, url: str) -> None:
    assert str(manifest_url(name, is_insecure=False)) == url


@pytest.mark.parametrize("name", ["10.0.0.1:80/library/tiny", "https://10.0.0.1:80/library/tiny"])
def test_insecure_means_plain_http_whatever_scheme_stands_in_the_name(name: str) -> None:
    assert str(manifest_url(name, is_insecure=True)) == "http://10.0.0.1/v2/library/tiny/manifests/latest"


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("0", 0.0),
        (" 30 ", 30.0),
        ("9" * 5000, 600.0),
        ("Sun, 09 Sep 2001 01:47:10 GMT", 30.0),
        ("Sun, 09 Sep 2001 01:46:10 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 600.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Sun, 99 Sep 2001 01:47:10 GMT", None),
    ],
    ids=lambda value: str(value)[:32],
)
def test_a_retry_after_is_seconds_or_a_date_and_ten_minutes_at_most(
    header: str, wait_s: float | None
) -> None:
    assert wait_asked(header, now_wall=NOW) == wait_s


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    monkeypatch.setenv("HTTP_PROXY", "plain:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example,.corp:8443")
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://registry.ollama.ai/v2/", "http://me:secret@proxy:3128"),
        ("http://registry.example/v2/", "http://plain:3128"),
        ("https://inside.example/v2/", None),
        ("https://a.inside.example:5000/v2/", None),
        ("https://a.corp:8443/v2/", None),
        ("http://127.0.0.1:5000/v2/", None),
        ("http://[::1]:5000/v2/", None),
        ("https://localhost:5000/v2/", None),
    ],
)
def test_the_proxy_is_the_one_that_ollama_would_take(
    environment: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    assert proxy_for(URL(url)) == proxy


def test_without_a_proxy_the_way_is_straight(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HTTPS_PROXY")

    assert proxy_for(URL("https://registry.ollama.ai/v2/")) is None
