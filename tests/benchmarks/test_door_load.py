"""The pure parts of the benchmark of the doors."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest

from benchmarks import door_load
from benchmarks.disturbance import Window
from benchmarks.door_load import FRAME, Heard, Load, Loaded, StandIn, _Asker, ratio, rows

STEPS = [1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 9.0]
"""Ends of steps: one a second, and two a second between 4 and 6."""


def loaded(hub_bytes: int = 100_000_000) -> Loaded:
    """Windows in which the load made the steps twice as fast."""
    before, during, after = (Window(began=began, ended=began + 2.5, hub_cpu_s=0.025) for began in (0.5, 3.5, 6.5))
    heard = Heard(num_bytes=25_000, answers_ms=[1.0] * 125, cpu_s=0.25)
    return Loaded(before=before, during=during, after=after, heard=heard, hub_bytes=hub_bytes)


def test_a_ratio_is_to_the_windows_around() -> None:
    """A drift of the machine's speed is in both of them."""
    assert ratio(STEPS, loaded()) == 2.0


def test_the_rows_judge_what_has_a_budget() -> None:
    """Speed, memory, the rate of answers and the client that never reads; the rest is told."""
    found = {row_.what: (row_.is_met, row_.measured) for row_ in rows([loaded(151_000_000)], STEPS, [62.0])}
    assert found["tokens/s with 100 viewers and 50 requests/s, against without"] == (True, "2.000 (n = 1)")
    assert found["hub memory with 100 viewers and 50 requests/s"] == (False, "151.0 MB (n = 1)")
    assert found["requests answered beside 100 viewers"] == (True, "50.00 a second (n = 1)")
    assert found["a client that never reads is dropped after"] == (True, "62.00 s (n = 1)")
    assert found["(one request beside 100 viewers)"] == (None, "p95 1.000 ms, median 1.000 ms (1.000 to 1.000, n = 125)")
    assert found["(CPU of the hub with 100 viewers and 50 requests/s)"] == (None, "1.000 % of a core (n = 1)")
    assert found["(bytes to each viewer)"] == (None, "100.0 a second (n = 1)")


def test_an_answer_is_whole_when_its_body_is() -> None:
    """However it comes in pieces; one that says no ends the benchmark."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        asker = _Asker(ours)
        for _ in range(2):
            asker.ask("/metrics")
            assert theirs.recv(100) == b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            pieces = [b"HTTP/1.1 200 OK\r\nContent-", b"Length: 5\r\nX: y\r\n\r\n", b"abc", b"de"]
            assert [asker.is_answered_by(piece) for piece in pieces] == [False, False, False, True]
        asker.ask("/metrics")
        with pytest.raises(RuntimeError, match="503"):
            asker.is_answered_by(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def test_the_clients_cost_what_they_cost_without_a_hub_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hear frames, and each request is answered, from sockets of their own process that are closed afterwards."""
    monkeypatch.setattr(door_load, "REQUESTS_PER_S", 200)
    stand_in = StandIn()
    with Load(stand_in) as load:
        give_up_at = time.monotonic() + 10
        while len(load.heard.answers_ms) < 20 or load.heard.num_bytes < 100 * len(FRAME):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
    assert load.heard.num_bytes % len(FRAME) == 0
    assert all(connection.fileno() == -1 for connection in (*stand_in._viewers, *stand_in._askers.values()))
