"""What a page may say and what a view's packets are, as tables; and that nothing a page sends is half a packet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.errors import UsageError
from plt_tui.web import wire
from plt_tui.web.wire import Heard, Size, heard, is_exit, length_of, packet, size_of

GOOD = [
    (["stdin", "p"], Heard(for_process=b"D\0\0\0\1p")),
    (["stdin", "é"], Heard(for_process=b"D\0\0\0\2\xc3\xa9")),
    (["stdin", "\ud800"], Heard(for_process=b"D\0\0\0\1?")),
    (
        ["resize", {"width": 80, "height": 24}],
        Heard(for_process=packet(b"M", b'{"type": "resize", "width": 80, "height": 24}')),
    ),
    (
        ["resize", {"width": 10**9, "height": 10**9}],
        Heard(for_process=packet(b"M", b'{"type": "resize", "width": 1000, "height": 400}')),
    ),
    (["resize", {"width": 0, "height": -3}], Heard(for_process=packet(b"M", b'{"type": "resize", "width": 1, "height": 1}'))),
    (["ping", "123"], Heard(for_page='["pong", "123"]')),
    (["focus"], Heard(for_process=packet(b"M", b'{"type": "focus"}'))),
    (["blur"], Heard(for_process=packet(b"M", b'{"type": "blur"}'))),
]

BAD = [
    "",
    "{",
    "null",
    "[]",
    '["stdin"]',
    '["stdin", 3]',
    '["stdin", "a", "b"]',
    '["resize", {"width": 80}]',
    '["resize", {"width": 80.5, "height": 24}]',
    '["resize", {"width": NaN, "height": 24}]',
    '["resize", {"width": "80", "height": 24}]',
    '["resize", {"width": 1e999, "height": 24}]',
    '["resize", {"width": true, "height": true}]',
    '["ping", "' + "1" * 65 + '"]',
    '["quit"]',
    '["deliver_chunk_request", {"key": "a"}]',
    '{"stdin": "a"}',
    "[" * 100_000,
    '["resize", {"width": ' + "9" * 5000 + ', "height": 1}]',
]


@pytest.mark.parametrize(("words", "wanted"), GOOD, ids=str)
def test_what_a_page_says_is_understood(words: list[object], wanted: Heard) -> None:
    """Keys, sizes within bounds, focus and pings; half a surrogate pair becomes a question mark."""
    assert heard(json.dumps(words)) == wanted


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:40])
def test_anything_else_is_refused(text: str) -> None:
    """Also what a driver would obey, such as quitting, and what breaks a parser."""
    with pytest.raises(UsageError, match="reload"):
        heard(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["width", "height", "type"]), inner, max_size=3)
    ),
    max_leaves=6,
)
WORDS = st.sampled_from(["stdin", "resize", "ping", "focus", "blur", "quit"])


@given(st.text() | st.builds(lambda word, rest: json.dumps([word, *rest]), WORDS, st.lists(JSON, max_size=2)))
def test_what_goes_to_a_view_is_whole(text: str) -> None:
    """Whatever comes: it is refused, or it is one packet of UTF-8, and of JSON where the driver reads JSON."""
    try:
        said = heard(text).for_process
    except UsageError:
        return
    if said:
        kind, length = length_of(said[: wire.HEAD_BYTES])
        payload = said[wire.HEAD_BYTES :]
        assert kind in (wire.DATA, wire.META)
        assert len(payload) == length
        payload.decode()
        assert kind == wire.DATA or json.loads(payload)["type"] in ("resize", "focus", "blur")


def test_a_packet_too_long_for_a_screen_is_none() -> None:
    """A length that no view sends is an error before anything is read or kept for it."""
    assert length_of(b"D" + wire.MAX_PACKET_BYTES.to_bytes(4, "big")) == (b"D", wire.MAX_PACKET_BYTES)
    with pytest.raises(ValueError, match="16,777,217 bytes"):
        length_of(b"D" + (wire.MAX_PACKET_BYTES + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("payload", "leaves"),
    [
        (b'{"type": "exit"}', True),
        (b'{"type": "open_url", "url": "http://a"}', False),
        (b"[]", False),
        (b"{", False),
        (b"\xff", False),
    ],
)
def test_only_a_leave_is_heard_of_a_view(payload: bytes, leaves: bool) -> None:
    """A view can neither open an address in the browser nor hand out a file."""
    assert is_exit(payload) is leaves


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ({}, Size(wire.DEFAULT_COLUMNS, wire.DEFAULT_ROWS)),
        ({"width": "80", "height": "24"}, Size(80, 24)),
        ({"width": "999999999", "height": "9" * 5000}, Size(wire.MAX_COLUMNS, wire.DEFAULT_ROWS)),
        ({"width": "0", "height": "-1"}, Size(wire.DEFAULT_COLUMNS, wire.DEFAULT_ROWS)),
        ({"width": "NaN", "height": "٣"}, Size(wire.DEFAULT_COLUMNS, wire.DEFAULT_ROWS)),
    ],
)
def test_a_size_in_an_address_is_a_size(query: dict[str, str], size: Size) -> None:
    """What is no number, or one that no screen has, is as if it were not there."""
    assert size_of(query) == size
