"""Who may ask the HTTP server what, as tables."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.errors import StorageError, UsageError
from plt_tui.server.guard import Address, Rules, denial, parse_address
from plt_tui.server.token import drop_token, is_token, new_token

LOCAL = {"host": ["127.0.0.1:8081"]}
TOKEN = "a-token_of-the-RUN-0123456789"
READING = Rules(host="127.0.0.2")
LOCKED = Rules(
    host="127.0.0.2", token=TOKEN, pages=frozenset({"/", "/static/page.js"}), methods={"/api/v1/commands": ("POST",)}
)
RIGHT = LOCAL | {"authorization": [f"Bearer {TOKEN}"]}

ALLOWED = [
    LOCAL,
    {"host": ["localhost"]},
    {"host": ["LOCALHOST:9000"]},
    {"host": ["[::1]:8081"]},
    {"host": ["127.0.0.2:8081"]},
    LOCAL | {"origin": ["http://127.0.0.1:8081"]},
    LOCAL | {"sec-fetch-site": ["none"]},
    LOCAL | {"sec-fetch-site": ["same-origin"]},
    LOCAL | {"authorization": ["Bearer not needed"]},
]

DENIED = [
    (421, {}),
    (421, {"host": []}),
    (421, {"host": [""]}),
    (421, {"host": ["evil.example"]}),
    (421, {"host": ["evil.example:8081"]}),
    (421, {"host": ["localhost.evil.example"]}),
    (421, {"host": ["localhost."]}),
    (421, {"host": ["127.0.0.1.nip.io"]}),
    (421, {"host": ["user@localhost"]}),
    (421, {"host": ["localhost:8081:8081"]}),
    (421, {"host": ["localhost/"]}),
    (421, {"host": ["[::1"]}),
    (421, {"host": ["localhost:evil"]}),
    (421, {"host": ["localhost", "evil.example"]}),
    (421, {"host": ["127.0.0.3"]}),
    (421, {"host": ["192.168.1.5"]}),
    (403, LOCAL | {"origin": ["http://evil.example"]}),
    (403, LOCAL | {"origin": ["null"]}),
    (403, LOCAL | {"origin": [""]}),
    (403, LOCAL | {"origin": ["http://127.0.0.1:9999"]}),
    (403, LOCAL | {"origin": ["http://localhost:8081"]}),
    (403, LOCAL | {"origin": ["https://127.0.0.1:8081"]}),
    (403, LOCAL | {"origin": ["http://127.0.0.1:8081", "http://evil.example"]}),
    (403, LOCAL | {"sec-fetch-site": ["cross-site"]}),
    (403, LOCAL | {"sec-fetch-site": ["same-site"]}),
]


def status(method: str, path: str, headers: dict[str, list[str]], rules: Rules) -> int:
    """Of the denial; 0: there is none."""
    refused = denial(method, path, headers, rules)
    return refused.status if refused is not None else 0


@pytest.mark.parametrize("headers", ALLOWED, ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_from_this_machine_is_allowed(method: str, headers: dict[str, list[str]]) -> None:
    """Loopback names and the configured host pass, with or without a port, from no site or the same one."""
    assert status(method, "/api/v1/run", headers, READING) == 0


@pytest.mark.parametrize("rules", [READING, LOCKED], ids=["open", "with a token"])
@pytest.mark.parametrize(("expected", "headers"), DENIED, ids=str)
def test_everything_else_is_denied(expected: int, headers: dict[str, list[str]], rules: Rules) -> None:
    """A foreign or doubtful Host is 421, a foreign origin 403, whatever else the request says, the right token included."""
    for path in ("/", "/api/v1/run", "/nothing"):
        assert status("GET", path, {**headers, "authorization": [f"Bearer {TOKEN}"]}, rules) == expected


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_other_methods_are_denied(method: str) -> None:
    """Nothing but GET and HEAD, by exact name: a list of what is allowed forgets no verb. The answer says what would do."""
    refused = denial(method, "/api/v1/run", LOCAL, READING)
    assert refused is not None
    assert (refused.status, refused.headers) == (405, {"Allow": "GET, HEAD"})
    assert "--http-control" in refused.reason


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/v1/commands", 0),
        ("GET", "/api/v1/commands", 405),
        ("HEAD", "/api/v1/commands", 405),
        ("PUT", "/api/v1/commands", 405),
        ("POST", "/api/v1/commands/", 405),
        ("POST", "/api/v1/commands%2f", 405),
        ("POST", "/api/v1/run", 405),
        ("POST", "/", 405),
        ("GET", "/api/v1/run", 0),
    ],
)
def test_only_the_path_of_commands_is_written_to(method: str, path: str, expected: int) -> None:
    """And only by POST."""
    assert status(method, path, RIGHT, LOCKED) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": [f"Bearer {TOKEN}"]},
        {"authorization": [f"bearer   {TOKEN}"]},
        {"sec-websocket-protocol": [f"plt-tui.v1, bearer.{TOKEN}"]},
        {"sec-websocket-protocol": ["plt-tui.v1", f"bearer.{TOKEN}"]},
    ],
    ids=str,
)
def test_who_has_the_token_passes(headers: dict[str, list[str]]) -> None:
    """As a header, or as a subprotocol of a WebSocket."""
    assert status("GET", "/api/v1/stream", LOCAL | headers, LOCKED) == 0


WITHOUT = [
    {},
    {"authorization": []},
    {"authorization": [""]},
    {"authorization": [TOKEN]},
    {"authorization": ["Bearer"]},
    {"authorization": ["Bearer "]},
    {"authorization": [f"Basic {TOKEN}"]},
    {"authorization": [f"Bearer {TOKEN[:-1]}"]},
    {"authorization": [f"Bearer {TOKEN}x"]},
    {"authorization": [f"Bearer {TOKEN.lower()}"]},
    {"authorization": [f"Bearer {TOKEN} {TOKEN}"]},
    {"authorization": [f"Bearer {TOKEN}", "Bearer other"]},
    {"authorization": ["Bearer \udcff"]},
    {"cookie": [f"token={TOKEN}"]},
    {"x-token": [TOKEN]},
    {"sec-websocket-protocol": [TOKEN]},
    {"sec-websocket-protocol": ["bearer."]},
    {"sec-websocket-protocol": [f"plt-tui.v1, bearer {TOKEN}"]},
]


@pytest.mark.parametrize("headers", WITHOUT, ids=str)
@pytest.mark.parametrize("path", ["/api/v1/run", "/metrics", "/unknown", "/api/v1/stream", "//", "/static/../api/v1/run"])
def test_who_has_not_is_nobody(headers: dict[str, list[str]], path: str) -> None:
    """401 with the way to ask properly, on every path and before its method is looked at; nothing sent comes back."""
    for method in ("GET", "HEAD", "POST", "DELETE"):
        refused = denial(method, path, LOCAL | headers, LOCKED)
        assert refused is not None
        assert (refused.status, refused.headers) == (401, {"WWW-Authenticate": "Bearer"})
        assert "http-token" in refused.reason
        assert TOKEN[:8] not in refused.reason


@pytest.mark.parametrize(
    ("path", "accept", "expected"),
    [
        ("/", [], 0),
        ("/", ["text/html,application/xhtml+xml,application/json;q=0.9"], 0),
        ("/", ["application/json"], 401),
        ("/", ["Application/JSON ; q=1, text/html"], 401),
        ("/static/page.js", ["*/*"], 0),
        ("/static/page.css", ["*/*"], 401),
        ("/%2F", ["*/*"], 401),
        ("/static/page%2ejs", ["*/*"], 401),
    ],
)
def test_only_the_page_is_open(path: str, accept: list[str], expected: int) -> None:
    """A browser gets it, to ask for the token; the index of routes, which names the run, needs it."""
    assert status("GET", path, LOCAL | {"accept": accept} if accept else LOCAL, LOCKED) == expected


@pytest.mark.parametrize("host", ["10.0.0.7:8081", "[fe80::1]", "8.8.8.8", "0.0.0.0:1", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("configured", ["0.0.0.0", "[::]"])
def test_where_all_addresses_are_listened_on_every_number_is_good(configured: str, host: str) -> None:
    """A page that would make this server's answers its own has a name."""
    assert status("GET", "/", {"host": [host]}, Rules(host=configured, token=TOKEN, pages=frozenset("/"))) == 0


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7.nip.io", "0x7f.1", "10.0.0.256", "1", "localhost.", "[::g]"])
def test_no_other_name_is(host: str) -> None:
    """Rebinding needs one."""
    assert status("GET", "/", {"host": [host]}, Rules(host="0.0.0.0", token=TOKEN, pages=frozenset("/"))) == 421


def test_a_name_that_was_configured_is_served() -> None:
    """And the loopback's; no number."""
    rules = Rules(host="box.example", token=TOKEN, pages=frozenset("/"))
    found = [status("GET", "/", {"host": [host]}, rules) for host in ("Box.Example:80", "localhost", "10.0.0.7")]
    assert found == [0, 0, 421]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8081", Address("127.0.0.1", 8081)),
        ("Localhost:0", Address("localhost", 0)),
        ("[::1]:80", Address("[::1]", 80)),
        ("127.5.5.5:65535", Address("127.5.5.5", 65535)),
    ],
)
def test_loopback_addresses_are_taken(text: str, address: Address) -> None:
    """host:port with a loopback host."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "8081", "localhost", "127.0.0.1:65536", "127.0.0.1:-1", "::1:8081", "a b:80"])
def test_what_is_no_address_is_named(text: str) -> None:
    """A malformed address is a UsageError that shows it and how to write one."""
    for has_token in (False, True):
        with pytest.raises(UsageError, match=r"metrics\.address = .* is not host:port; write it like"):
            parse_address(text, has_token=has_token)


OPEN = ["0.0.0.0", "[::]", "192.168.1.5", "mybox", "example.org", "[::ffff:10.0.0.1]", "1270.0.0.1"]


@pytest.mark.parametrize("host", OPEN)
def test_an_open_address_is_refused(host: str) -> None:
    """Listening where others can reach it needs a token; the refusal names the setting and the way through ssh."""
    with pytest.raises(UsageError, match=r"metrics\.address = .* token.*ssh -L.*metrics\.token = true"):
        parse_address(f"{host}:8081")


@pytest.mark.parametrize("host", OPEN)
def test_an_open_address_is_taken_with_a_token(host: str) -> None:
    """Then others need it."""
    assert parse_address(f"{host}:8081", has_token=True) == Address(host, 8081)


def test_rules_do_not_show_their_token() -> None:
    """In no traceback, log or debugger's line."""
    assert TOKEN not in repr(LOCKED)


def test_a_token_is_for_the_owner_s_eyes(tmp_path: Path) -> None:
    """256 random bits in a file of mode 0600, another one each time; gone when it is dropped, twice if need be."""
    folder = RunFolder(tmp_path)
    first = new_token(folder)
    path = tmp_path / "http-token"
    assert path.read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = new_token(folder)
    assert (len(second), second != first, path.read_text()) == (43, True, second)
    drop_token(folder)
    drop_token(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """That names the file."""
    with pytest.raises(StorageError, match=r"http-token: cannot be written"):
        new_token(RunFolder(tmp_path / "nowhere"))


@pytest.mark.parametrize("given", ["", "other", TOKEN + "x", TOKEN[1:], "\udcff", "é"])
def test_nothing_else_is_the_token(given: str) -> None:
    """Whatever characters a client sends."""
    assert not is_token(given, TOKEN)
    assert is_token(TOKEN, TOKEN)
