"""Who may ask the HTTP server what, as tables."""

from __future__ import annotations

import pytest

from plt_tui.errors import UsageError
from plt_tui.server.guard import Address, denial, parse_address

LOCAL = {"host": ["127.0.0.1:8081"]}

ALLOWED = [
    LOCAL,
    {"host": ["localhost"]},
    {"host": ["LOCALHOST:9000"]},
    {"host": ["[::1]:8081"]},
    {"host": ["127.0.0.2:8081"]},
    LOCAL | {"origin": ["http://127.0.0.1:8081"]},
    LOCAL | {"sec-fetch-site": ["none"]},
    LOCAL | {"sec-fetch-site": ["same-origin"]},
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


@pytest.mark.parametrize("headers", ALLOWED, ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_from_this_machine_is_allowed(method: str, headers: dict[str, list[str]]) -> None:
    """Loopback names and the configured host pass, with or without a port, from no site or the same one."""
    assert denial(method, headers, "127.0.0.2") is None


@pytest.mark.parametrize(("status", "headers"), DENIED, ids=str)
def test_everything_else_is_denied(status: int, headers: dict[str, list[str]]) -> None:
    """A foreign or doubtful Host is 421, a foreign origin 403, whatever else the request says."""
    refused = denial("GET", headers, "127.0.0.2")
    assert refused is not None
    assert refused.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_other_methods_are_denied(method: str) -> None:
    """Nothing but GET and HEAD, by exact name: a list of what is allowed forgets no verb."""
    refused = denial(method, LOCAL, "127.0.0.1")
    assert refused is not None
    assert refused.status == 405


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
    with pytest.raises(UsageError, match=r"metrics\.address = .* is not host:port; write it like"):
        parse_address(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.5", "mybox", "example.org", "[::ffff:10.0.0.1]", "1270.0.0.1"])
def test_an_open_address_is_refused(host: str) -> None:
    """Listening where others can reach it needs a token; the refusal names the setting and the way through ssh."""
    with pytest.raises(UsageError, match=r"metrics\.address = .* token.*ssh -L"):
        parse_address(f"{host}:8081")
