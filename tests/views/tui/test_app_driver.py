"""The app and its terminal: background, colours, what is typed meanwhile, and what the view takes for itself."""

import time

import psutil
import pyte
from pseudo_terminal import DEADLINE_S, TRUE_COLOR, Terminal, running

from plt_tui.views.tui.app import SILENCE_CHECK_S
from plt_tui.views.tui.background import ASK
from plt_tui.views.tui.terminal import NICENESS
from tests.escape_sequences import sequences

SCRIPT = """
import sys
import fakes
from plt_tui.config.schema import UiSection
from plt_tui.views.tui.app import RunApp
source = fakes.FakeSource(fakes.{history}())
app = RunApp(source.connect, name="quickstart", ui=UiSection({ui}), config=fakes.CONFIG)
app.run()
print("theme", app.theme, "sent", [command.name for command in source.sent], flush=True)
"""
PATIENTLY = """
from plt_tui.views.tui import app as app_module
app_module.ANSWER_S = 30.0
"""
"""A busy machine may take longer to bring question and answer across than a person shall wait for them."""
IN_PIECES = """
from plt_tui.views.tui import driver as driver_module
driver_module.QUIET_S = 2.0
"""
"""And to bring the pieces of an answer, which are one as long as they follow each other at once."""
QUESTION = ASK.encode()
DARK, LIGHT = b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\", b"\x1b]11;rgb:fafa/fafa/fafa\x07"
DETACH = b"d"


def script(ui: str = "", history: str = "training") -> str:
    """The app, which tells in the end which theme it had and what it has sent."""
    return SCRIPT.format(ui=ui, history=history)


def last_words(terminal: Terminal, *keys: bytes) -> bytes:
    """What the app tells when it is left by these keys."""
    terminal.type(*keys)
    terminal.read_until(b"]\r\n")
    return terminal.received[terminal.received.rindex(b"theme ") :].strip()


def is_shown(terminal: Terminal, text: str) -> bool:
    """True while `text` stands on the screen of 120x40."""
    screen = pyte.Screen(120, 40)
    pyte.ByteStream(screen).feed(terminal.received)
    return text in "\n".join(screen.display)


def color_codes(terminal: Terminal) -> set[int]:
    """The numbers of all SGR sequences so far."""
    kinds, _ = sequences(terminal.received.decode())
    return {int(kind.removeprefix("SGR ")) for kind in kinds if kind.startswith("SGR ")}


def test_the_theme_follows_the_background() -> None:
    """The terminal is asked before anything is drawn, and a light one gets a light theme from the first frame on."""
    with running(PATIENTLY + script(), seen=QUESTION) as (_, terminal):
        terminal.type(LIGHT)
        terminal.read_until(b"training")
        assert b"48;2;18;18;18m" not in terminal.received
        assert last_words(terminal, DETACH) == b"theme textual-light sent []"


def test_keys_around_an_answer_are_heard_and_no_other() -> None:
    """Typed before, within and after it; one that comes late, or twice, changes the theme and presses nothing."""
    with running(IN_PIECES + script(), seen=QUESTION) as (_, terminal):
        terminal.type(b"c", DARK[:8], DARK[8:], b"v")
        terminal.read_until(b"training")
        terminal.read_for(0.5)
        terminal.type(b"c" + LIGHT + b"v")
        terminal.read_for(0.3)
        for byte in LIGHT[:1], LIGHT[1:9], LIGHT[9:]:
            terminal.type(byte)
            time.sleep(0.01)
        deadline = time.monotonic() + DEADLINE_S
        while b"]\r\n" not in terminal.received:  # too soon behind the escape that a piece begins with it is alt+d
            assert time.monotonic() < deadline, "it is not left"
            terminal.type(DETACH)
            terminal.read_for(1.0)
        sent = last_words(terminal)
        assert sent.startswith(b"theme textual-light sent ")
        assert sent.count(b"'checkpoint'") + sent.count(b"'eval'") == sent.count(b"'") // 2
        assert sent.endswith(b"'checkpoint', 'eval']")


def test_sixteen_colours_are_the_terminals_own() -> None:
    """Neither RGB nor 256 colours are sent to a terminal that has 16; and one that would show the question is not asked."""
    with running(script("theme='nord', palette='okabe-ito'"), environ={"TERM": "linux"}, size=(120, 40)) as (_, terminal):
        terminal.type(b"e")
        terminal.read_until(b"hyperparameters")
        terminal.read_for(0.3)
        codes = color_codes(terminal)
        assert codes & {31, 32, 33, 34, 35, 36}
        assert not codes & {38, 48}
        assert QUESTION not in terminal.received
        terminal.type(b"\x1b")
        deadline = time.monotonic() + DEADLINE_S
        while is_shown(terminal, "hyperparameters"):  # a `d` that comes too soon behind Escape is alt+d
            assert time.monotonic() < deadline, "Escape closes nothing"
            terminal.read()
        assert last_words(terminal, DETACH) == b"theme ansi-dark sent []"


def test_no_color_means_none() -> None:
    """With NO_COLOR not one colour is sent; what is selected is told by other means."""
    with running(script(), environ={**TRUE_COLOR, "NO_COLOR": "1"}, size=(120, 40)) as (_, terminal):
        terminal.type(b"e")
        terminal.read_until(b"hyperparameters")
        terminal.read_for(0.3)
        deadline = time.monotonic() + DEADLINE_S
        while not {1, 4} <= color_codes(terminal):
            assert time.monotonic() < deadline, "nothing tells what is selected"
            terminal.read()
        assert not color_codes(terminal) & {*range(30, 39), *range(40, 49), *range(90, 98), *range(100, 108)}


def test_bytes_that_are_no_text_do_not_end_the_view() -> None:
    """A key of another encoding, or a binary file that was pasted: the view goes on and hears the next key."""
    with running(script(), size=(100, 30)) as (_, terminal):
        terminal.type(b"\xff\xfe\x80\xc3(\xf0\x28\x8c\x28")
        terminal.read_for(0.3)
        assert last_words(terminal, DETACH).startswith(b"theme textual-dark")  # nobody has told of a background


def test_a_view_gives_way_to_a_training() -> None:
    """Beside a live run it lowers its priority. Where a theme was chosen nobody is asked for the background."""
    with running(script("theme='nord'")) as (process, terminal):
        view, deadline = psutil.Process(process.pid), time.monotonic() + DEADLINE_S
        while view.nice() < NICENESS:
            assert time.monotonic() < deadline, "the view insists on its turn"
            terminal.read()
        assert last_words(terminal, DETACH) == b"theme nord sent []"
        assert QUESTION not in terminal.received


def test_a_view_of_a_run_that_is_over_has_nobody_to_give_way_to() -> None:
    """It keeps the priority that it was started with."""
    with running(script(history="finished"), seen=b"finished") as (process, terminal):
        terminal.read_for(2 * SILENCE_CHECK_S)
        assert psutil.Process(process.pid).nice() == psutil.Process().nice()
