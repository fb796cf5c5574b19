"""A view that needs no run: speaks the packets of Textual's web driver, and behaves as its argument says. Run as a script."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def write(kind: bytes, payload: bytes) -> None:
    """Send a packet."""
    os.write(1, kind + len(payload).to_bytes(4, "big") + payload)


def read() -> tuple[bytes, bytes]:
    """The next packet; the end of what is said to us ends the view."""
    head = sys.stdin.buffer.read(5)
    if len(head) < 5:
        sys.exit(0)
    return head[:1], sys.stdin.buffer.read(int.from_bytes(head[1:], "big"))


def echo() -> None:
    """Show what is said to us, until we are to quit, or "leave" is typed."""
    shown = {name: os.environ.get(name) for name in ("COLUMNS", "ROWS", "TEXTUAL_DRIVER", "TMUX")}
    write(b"D", json.dumps({**shown, "pid": os.getpid()}).encode())
    while True:
        kind, payload = read()
        if payload == b"leave" or (kind == b"M" and json.loads(payload)["type"] == "quit"):
            break
        write(b"D", kind + payload)
    write(b"M", b'{"type": "exit"}')
    print("the run \x1b]0;goes\x07 on", flush=True)


def deaf() -> None:
    """Heed nothing, neither what is said nor a signal that can be ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write(b"D", json.dumps({"pid": os.getpid()}).encode())
    while True:
        time.sleep(3600)


def dies() -> None:
    """Say one thing, complain, and be gone."""
    write(b"D", b"{}")
    print("Traceback\nSomeError: \x1b[31mno \u202eluck", file=sys.stderr)
    sys.exit(1)


def floods() -> None:
    """Show more than anybody reads."""
    write(b"D", json.dumps({"pid": os.getpid()}).encode())
    while True:
        write(b"D", b"x" * 65536)


def babbles() -> None:
    """Say what is no packet."""
    write(b"D", b"{}")
    os.write(1, b"D\xff\xff\xff\xff" + b"?" * 100)
    time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1] == "refuses":
        print("plt-tui: no run 'a'", file=sys.stderr)
        sys.exit(2)
    os.write(1, b"a word of some library\n__GANGLION__\n")
    {"echo": echo, "deaf": deaf, "dies": dies, "floods": floods, "babbles": babbles}[sys.argv[1]]()
