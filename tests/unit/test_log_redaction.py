"""Guards promise 7 of the contract: passwords, tokens, prompts and the model's words leave every log line."""

from __future__ import annotations

import time

import pytest

from arasul_supervisor.logs.meaning.prefilter import is_candidate
from arasul_supervisor.logs.meaning.redaction import redact
from arasul_supervisor.logs.meaning.screen import screen

TIME = "time=2026-11-23T07:32:48.871Z"

PRIVATE = [
    pytest.param(
        f'{TIME} level=INFO source=routes.go:2005 msg="server config" env="map[CUDA_VISIBLE_DEVICES: '
        'HTTPS_PROXY:http://user:SECRETPW@10.0.0.1:3128 HTTP_PROXY: NO_PROXY: OLLAMA_DEBUG:INFO]"',
        "HTTPS_PROXY:[redacted]@10.0.0.1:3128 HTTP_PROXY: NO_PROXY: OLLAMA_DEBUG:INFO",
        id="a proxy in the server's environment",
    ),
    pytest.param(
        "https_proxy:user:SECRETPW@h:1 no_proxy:x", "@h:1 no_proxy:x", id="a proxy without a scheme"
    ),
    pytest.param("http_proxy:http://u:SEC/RET@PW@h:1]", "@h:1]", id="a password with an @ and a slash"),
    pytest.param(r'x="http://u:SEC\"RETPW@host/"', "@host/", id="a password with a quote"),
    pytest.param(
        "pull from https://SECRETTOKEN@reg.example/v2/", "@reg.example/v2/", id="a token as the user"
    ),
    pytest.param(
        "http://u:SECRETPW [cut @ 64 KiB]", "http://[redacted] [cut @", id="an address cut in the password"
    ),
    pytest.param(
        "common_chat_peg_parse: unparsed peg-native output: SECRET", "output: [redacted]", id="model output"
    ),
    pytest.param(
        r'"request failed: Get \"https://h/b/sha256:aa?Policy=SECRET__&Signature=SECRET~b&Key-Pair-Id=SECRETK\": EOF"',
        r'Get \"https://h/b/sha256:aa?[redacted]\": EOF"',
        id="an address that CloudFront signed",
    ),
    pytest.param(
        "Get https://h/b?sv=2024-11-04&sr=b&sp=r&sig=SECRET%3D: EOF",
        "https://h/b?[redacted]",
        id="that Azure signed",
    ),
    pytest.param(
        '"https://h/b?verify=1764-SECRET" x', '"https://h/b?[redacted]" x', id="that Cloudflare signed"
    ),
    pytest.param(
        r'"https://h/b?AWSAccessKeyId=SECRET\u0026Signature=SECRET" x',
        '"https://h/b?[redacted]" x',
        id="as JSON",
    ),
    pytest.param(
        f'{TIME} level=WARN source=gemma4.go:329 msg="gemma4 tool call parsing failed" error="x SECRET" content=SECRET',
        'parsing failed" [redacted]',
        id="a tool call that was not understood",
    ),
    pytest.param(
        f'{TIME} level=ERROR source=x.go:1 msg="harmony parser: missing role in header" header="SECRET no space left"',
        'header" header=[redacted]',
        id="a message's header",
    ),
    pytest.param(
        f'{TIME} level=WARN source=x.go:1 msg="glimmer parser recovered stray message '
        'boundary token in ATEM invoke name" name=SECRET',
        'name" [redacted]',
        id="a tool's name",
    ),
    pytest.param(
        f'{TIME} level=WARN source=x.go:1 msg="of a fork" n=1 content="SECRET mkdir /a: permission denied"',
        "n=1 content=[redacted]",
        id="content by any message",
    ),
    pytest.param("Cookie: session=SECRET; b=SECRET", "Cookie: [redacted]", id="a request that gin prints"),
    pytest.param("https://h/x?key=SECRET&b=1", "?key=[redacted]&b=1", id="a key in a query"),
    pytest.param('authtoken=SECRET pwd="SECRET x"', "authtoken=[redacted] pwd=[redacted]", id="other names"),
    pytest.param(
        '"GET /authorization: basic' + " " * 9 + 'SECRET"', "basic" + " " * 9 + "[redacted]", id="many blanks"
    ),
    pytest.param("Authorization:" + " " * 9 + "SECRET", " [redacted]", id="many blanks without a scheme"),
    pytest.param('Parsed message: {"content":"SECRET"}', "Parsed message: [redacted]", id="a parsed message"),
    pytest.param(
        f'{TIME} level=TRACE source=x.go:1 msg=encoded string="SECRET x" ids="[1]"', "msg=enc", id="trace"
    ),
    pytest.param(
        f'{TIME} level=DEBUG-4 source=x.go:1 msg="a b" text=SECRET', 'msg="a b" [redacted]', id="trace of old"
    ),
    pytest.param(
        f'{TIME} level=DEBUG source=x.go:1 msg="chat request" images=0 prompt="<|im|>SECRET \\"x\\" SECRET" n=1',
        "images=0 prompt=[redacted] n=1",
        id="a prompt at debug",
    ),
    pytest.param("Authorization: Bearer SECRETabc.def", "Authorization: Bearer [redacted]", id="a header"),
    pytest.param("map[Authorization:[Basic SECRETabc=]]", "[redacted]", id="a header in a Go map"),
    pytest.param("sending bearer SECRETabcdef now", "bearer [redacted] now", id="a bearer alone"),
    pytest.param("OLLAMA_API_KEY=SECRETabc x", "OLLAMA_API_KEY=[redacted] x", id="an API key"),
    pytest.param(
        '{"api_key": "SECRET abc", "n": 1}', '{"api_key": [redacted], "n": 1}', id="an API key in JSON"
    ),
    pytest.param("HF_TOKEN=hf_SECRETSECRETSECRET", "HF_TOKEN=[redacted]", id="a token variable"),
    pytest.param("use hf_SECRETSECRETSECRET here", "use hf_[redacted] here", id="a hub token alone"),
    pytest.param('Get "https://r/x?token=SECRET&b=1"', "?token=[redacted]&b=1", id="a token in a query"),
    pytest.param(
        "https://r2/x?a=b&X-Amz-Signature=SECRET0", "https://r2/x?[redacted]", id="a signed address"
    ),
    pytest.param('password: "SECRET x"', "password: [redacted]", id="a password"),
]
PUBLIC = [
    'time=… msg="Listening on 127.0.0.1:11434 (version 0.34.4)"',
    "print_timing: n_tokens = 512, total tokens = 99, token = 12",
    "print_info: BOS token        = 1 '<s>'",
    "OLLAMA_ORIGINS:[http://localhost https://localhost:* app://* file://*]",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBM0emxqh8nu1ZpHmQaVELYmazMUdFqPKAHWGYe7VHMl",
    "HTTPS_PROXY: HTTP_PROXY: NO_PROXY:localhost OTHER:a@b",
    f'{TIME} level=INFO source=x.go:1 msg="starting llama-server" cmd="/x/llama-server --model /b --port 1"',
]


@pytest.mark.parametrize(("line", "shown"), PRIVATE)
def test_what_is_private_leaves_the_line(line: str, shown: str) -> None:
    redacted = redact(line)
    assert "SEC" not in redacted
    assert "RET" not in redacted
    assert shown in redacted


@pytest.mark.parametrize(("line", "_shown"), PRIVATE)
def test_the_prefilter_lets_every_private_line_through(line: str, _shown: str) -> None:
    assert is_candidate(line.encode())


@pytest.mark.parametrize(("line", "_shown"), PRIVATE)
def test_a_redacted_line_stays_as_it_is(line: str, _shown: str) -> None:
    assert redact(redact(line)) == redact(line)


@pytest.mark.parametrize("line", PUBLIC)
def test_what_is_public_stays(line: str) -> None:
    assert redact(line) == line


def test_raw_text_of_the_model_is_hidden_until_a_logger_writes_again() -> None:
    block = (
        b"common_chat_peg_parse: unparsed peg-native output: <tool>\n"
        b"panic: my secret diary\n"
        b"CUDA error: second page\n"
        b"srv  update_slots: all slots are idle\n"
        b"panic: a real one\n"
    )
    screened = screen(block)
    assert screened.data == (
        b"common_chat_peg_parse: unparsed peg-native output: [redacted]\n"
        b"[redacted]\n[redacted]\n"
        b"srv  update_slots: all slots are idle\n"
        b"panic: a real one\n"
    )
    assert {index: match.outcome for index, match in screened.matches.items()} == {
        0: "bad_output",
        4: "panic",
    }
    assert not screened.after.is_private


def test_private_text_goes_on_into_the_next_block() -> None:
    first = screen(b"x: unparsed y output: a\nb\n")
    second = screen(b"c\nd\n", first.after)
    third = screen(b"e\n[GIN] 2026/11/23 - 1\n", second.after)
    assert second.data == b"[redacted]\n[redacted]\n"
    assert third.data == b"[redacted]\n[GIN] 2026/11/23 - 1\n"
    assert not third.after.is_private


def test_bytes_that_are_no_text_survive_beside_a_secret() -> None:
    screened = screen(b"\xff\x00 token=abcdef \xfe\n")
    assert screened.data == b"\xff\x00 token=[redacted] \xfe\n"


def test_a_block_without_anything_private_is_passed_on_as_it_is() -> None:
    block = b"a\nb\n"
    assert screen(block).data is block


@pytest.mark.parametrize(
    "word",
    ["a://", "a://@", "_proxy:", 'api_key="', "authorization: ", "error loading model: ", ": x", "a://b?c="],
)
def test_a_hostile_line_costs_no_more_than_its_length(word: str) -> None:
    line = ("foo: CUDA error: " + word * 20_000)[:65_535] + "\n"
    began_s = time.process_time()
    screen(line.encode())
    assert time.process_time() - began_s < 1.0  # a quadratic pattern takes 2 to 5 s


@pytest.mark.parametrize("gap", [" ", "\t", ":", " :", '"', "\\", "(", "? "])
@pytest.mark.parametrize(
    "word",
    [
        *("/authorization: basic", "authorization", "bearer", "api_key", "token=", "Cookie:", "prompt="),
        *("http_proxy=", "https://a", "https://a?b=", "sig=", "Parsed message:"),
        f'{TIME} level=INFO source=x.go:1 msg="parser',
    ],
)
def test_a_run_of_blanks_behind_a_secrets_name_costs_no_more_than_its_length(word: str, gap: str) -> None:
    line = word + (gap * 60_000)[:60_000] + '"\n'
    began_s = time.process_time()
    screen(line.encode())
    assert time.process_time() - began_s < 1.0  # the clients of Ollama write such lines into its access log
