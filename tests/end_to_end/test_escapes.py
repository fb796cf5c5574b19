"""Hostile texts on their whole way, from a rank, a person and a sample to a real pseudo-terminal."""

from __future__ import annotations

import signal
import unicodedata
from pathlib import Path

import pytest

from tests.end_to_end.runs import at_step, command, ended, read_until, start, stop
from tests.end_to_end.terminal import Terminal
from tests.escape_sequences import sequences

PLUGIN = Path(__file__).with_name("hostile_plugin.py")
HOSTILE = (
    b"a\x1b[2J\x1b[H\x1b[?1049l\x1b[?1003h\x1b]0;owned\x07\x1b]8;;http://x\x1b\\y\x1b]8;;\x1b\\\x1b]52;c;cm0gLXJm\x07\x1b]9;hi\x07b\n"
    b"a\x1bP$qm\x1b\\\x1b_Gf=100\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\\x1bc\x1b(0\x9b2J\x9d0;c1\x9cb\n"
    + "a\x9b2J\u202egnp.exe\u2066\u200b\ufeff\u2028\x08\x7fb\n".encode()
    + ("a" + "\u0301" * 200 + "b\n").encode()
    + b"a\xff\xfe\xc3(b\n"
)
HOSTILE_RUN = ("model.arch=hostile", "parallel.ranks=1")
HARMLESS = b"a plain line\nand another one\n"
TEXT = "a\x1b[2J\x1b]0;owned\x07\x9b2J\u202e\u200b" + "\u0301" * 50 + "b"
ESCAPE = "\x1b[27u"


def looked_at(folder: Path, name: str, said: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything that a view of a live run sends: the run says `said`, its prompt is `text`, and somebody notes it."""
    (folder / "said").write_bytes(said)
    monkeypatch.setenv("SAY", str(folder / "said"))
    sets = ("train.steps=1000000", f"sample.prompt={text}", "sample.every=100", "checkpoint.every=0", *HOSTILE_RUN)
    process = start(folder, name, *sets, extra=("--plugin", str(PLUGIN)))
    with ended(process):
        read_until(process, at_step(100))
        command(folder, "ctl", name, "note", text)
        with Terminal(folder, "attach", name, columns=120, rows=40) as terminal:
            terminal.wait_for("training", "logs", "step ")
            for key, title in (("/", "regular expression"), ("e", "hyperparameters"), ("i", "─ outcome ─"), ("?", "─ keys ─")):
                terminal.press(key)
                terminal.wait_for(title)
                terminal.press(ESCAPE)
                terminal.wait_until_gone(title)
            terminal.press("z")
            terminal.wait_until_gone("trends")
            terminal.press("z")
            command(folder, "ctl", name, "note", text)
            terminal.wait_for("trends", "note kept at step")
            terminal.press("d")
            assert terminal.wait_for_exit() == 0
        stop(process, signal.SIGTERM)
        process.communicate()
    with Terminal(folder, "logs", name, columns=120, rows=40) as printed:
        printed.wait_for_exit()
    return (terminal.output + printed.output).decode()


def test_nothing_that_anybody_says_reaches_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The view, and `logs` on a terminal, send the sequences of a harmless run and no other, and no invisible character."""
    usual, plain = sequences(looked_at(tmp_path, "harmless", HARMLESS, "plain", monkeypatch))
    kinds, text = sequences(looked_at(tmp_path, "hostile", HOSTILE, TEXT, monkeypatch))
    assert kinds - usual == set()
    unseen = {char for char in text if not char.isprintable() and unicodedata.category(char) != "Zs"}
    assert unseen <= {char for char in plain if not char.isprintable()}
    assert "\u0301" * 9 not in text
    for shown in ("\\x1b[2J", "\\x1b]0;owned", "\\x9b2J", "\\u202e", "\\x1bP$qm"):
        assert shown in text
