"""Alerts at the terminal: who is called when, in what bytes, and that a storm calls once."""

import signal
from collections.abc import Mapping

import fakes
import pytest
from driving import driven, make_app, run_screen, screen_text, until
from hypothesis import given
from hypothesis import strategies as st
from pseudo_terminal import TRUE_COLOR, running
from textual.events import AppBlur, AppFocus

from plt_tui.config.alerts import ALERT_KINDS, AlertsSection, Bell
from plt_tui.config.schema import RunConfig
from plt_tui.config.settings import Settings, UiChoices
from plt_tui.protocol.events import Alert, CheckpointFailed, CommandStatus, End, Event, Failed, Phase, Spike
from plt_tui.protocol.notices import GAP_S, bounded
from plt_tui.views.tui import alerts as alerts_module
from plt_tui.views.tui.alerts import IDLE_S, Alarm, calling
from plt_tui.views.tui.screens import run as run_module

FULL = CheckpointFailed(step=9, reason="disk full")
SPIKE = Spike(step=7, what="loss", value=8.0, z=9.0, act="warn", reason="loss 8 is far out")
NAN = Spike(step=7, what="loss", value=float("nan"), z=float("nan"), act="stop", reason="loss is nan")
END = End(phase="finished", step=9, exit_code=0, reason="target reached")
FAILED = Failed(rank=1, message="boom", exit_code=4)


def alarm(bell: Bell = "always", **said: object) -> Alarm:
    """An alarm at time 0."""
    return Alarm(AlertsSection.model_validate({"bell": bell, **said}), "big", 0.0)


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (END, "finish", "plt-tui big: finished at step 9: target reached"),
        (
            End(phase="failed", step=9, exit_code=4, reason="boom"),
            "crash",
            "plt-tui big: failed at step 9 (exit code 4): boom",
        ),
        (Phase(phase="failed", step=9, reason="its hub is gone"), "crash", "plt-tui big: failed at step 9: its hub is gone"),
        (NAN, "nan", "plt-tui big: step 7: loss is nan; run stopped"),
        (SPIKE, "spike", "plt-tui big: step 7: loss 8 is far out"),
        (Alert(topic="plateau", text="no better"), "plateau", "plt-tui big: no better"),
        (FULL, "disk", "plt-tui big: step 9 not saved: disk full"),
    ],
)
def test_every_kind_toasts_and_rings_and_can_be_switched_off(event: Event, kind: str, words: str) -> None:
    """On: with its words; off: not at all, while all other kinds still call."""
    call = alarm().hear(event, 0.0)
    assert (call.is_toasted, call.words) == (True, words)
    others = [other for other in ALERT_KINDS if other != kind]
    assert alarm(on=others).hear(event, 0.0) == alerts_module.Call(is_toasted=False)
    assert alarm(on=[kind]).hear(event, 0.0).words == words


def test_what_is_no_alert_is_toasted_as_ever_and_never_rings() -> None:
    """A refused command, good news; of a failed rank the toast can be switched off with its kind."""
    refused = CommandStatus(id="a", name="set", args={}, actor="ana", status="refused")
    for event in (refused, Alert(topic="disk", text=""), FAILED):
        assert alarm().hear(event, 0.0) == alerts_module.Call(is_toasted=True)
    assert not alarm(on=["finish"]).hear(FAILED, 0.0).is_toasted


@pytest.mark.parametrize(
    ("bell", "focus", "idle_s", "rings"),
    [
        ("never", False, 9999.0, False),
        ("always", True, 0.0, True),
        ("away", False, 0.0, True),
        ("away", True, 9999.0, False),  # it looks: the terminal says so
        ("away", None, 0.0, False),
        ("away", None, IDLE_S, False),
        ("away", None, IDLE_S + 1, True),
    ],
)
def test_it_rings_when_nobody_looks(bell: Bell, focus: bool | None, idle_s: float, rings: bool) -> None:
    """By the terminal's word about its focus; by the last key where it gives none. The toast comes in any case."""
    heard = alarm(bell)
    heard.touched(100.0)
    if focus is not None:
        heard.focus_told(focus)
    call = heard.hear(END, 100.0 + idle_s)
    assert (call.is_toasted, bool(call.words)) == (True, rings)


def test_a_storm_toasts_and_rings_once() -> None:
    """A thousand spikes within GAP_S are one call, and the next one says how many there were."""
    heard = alarm()
    calls = [heard.hear(SPIKE, 0.001 * number) for number in range(1000)]
    assert [call.is_toasted for call in calls] == [True] + [False] * 999
    assert heard.hear(SPIKE, GAP_S).words == "plt-tui big: step 7: loss 8 is far out (and 999 more before)"


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"TERM": "xterm-256color"}, "\x07\x1b]9;WORDS\x07"),
        ({"TERM": "xterm", "TMUX": ""}, "\x07\x1b]9;WORDS\x07"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/t,1,0"}, "\x07\x1bPtmux;\x1b\x1b]9;WORDS\x07\x1b\\"),
        ({"TERM": "linux"}, "\x07"),
        ({}, "\x07"),
    ],
)
def test_a_terminal_gets_what_it_knows(environ: Mapping[str, str], sent: str) -> None:
    """Bell and notification; through tmux; the bell alone where the rest would be shown as text."""
    assert calling("WORDS", environ) == sent


@given(st.text(max_size=500), st.text(max_size=20))
def test_no_words_end_the_sequence_early(reason: str, name: str) -> None:
    """Whatever an exception or a name holds: one notification, and after it nothing that is not ours."""
    heard = Alarm(AlertsSection(bell="always"), bounded(name), 0.0)
    words = heard.hear(CheckpointFailed(step=1, reason=reason), 0.0).words
    assert words.startswith("plt-tui")
    sent = calling(words, {"TERM": "xterm"})
    assert [sent.count(char) for char in "\x07\x1b"] == [2, 1]
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in words)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the run screen has rung with."""
    words: list[str] = []
    monkeypatch.setattr(run_module, "ring", lambda _, said, __: words.append(said))
    return words


async def test_the_screen_rings_while_it_has_no_focus(rung: list[str]) -> None:
    """An event of the run rings once the terminal has said that nobody looks, and not again when somebody does."""
    async with driven(fakes.training()) as (pilot, source):
        source.feed(FULL)
        await until(pilot, lambda: "disk full" in screen_text(pilot.app))
        pilot.app.post_message(AppBlur())
        await until(pilot, lambda: not pilot.app.app_focus)
        source.feed(SPIKE)
        await until(pilot, lambda: rung)
        pilot.app.post_message(AppFocus())
        await until(pilot, lambda: pilot.app.app_focus)
        source.feed(Alert(topic="plateau", text="no better for long"))
        await until(pilot, lambda: "no better for long" in screen_text(pilot.app))
    assert rung == ["plt-tui quickstart: step 7: loss 8 is far out"]


async def test_a_storm_of_spikes_leaves_the_screen_usable(rung: list[str]) -> None:
    """One toast for hundreds of spikes; the events pane still has them all."""
    config = RunConfig(alerts=AlertsSection(bell="always"))
    async with driven(fakes.training(), config=config) as (pilot, source):
        before = len(pilot.app._notifications)
        source.feed(*[SPIKE] * 300)
        model = run_screen(pilot.app).session.model
        await until(pilot, lambda: model.state.num_spikes == 300)
        run_screen(pilot.app).tick()
        await pilot.pause()
        assert len(pilot.app._notifications) - before == 1
    assert len(rung) == 1


async def test_the_person_wins_over_the_run(rung: list[str]) -> None:
    """`bell` of the settings file counts at this terminal, whatever the run's configuration has."""
    config = RunConfig(alerts=AlertsSection(bell="always"))
    source = fakes.FakeSource(fakes.training())
    app = make_app(source.connect, config=config)
    app.person.settings = Settings(ui=UiChoices(bell="never"))
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1 and run_screen(app).session.model.is_live)
        source.feed(FULL)
        await until(pilot, lambda: "disk full" in screen_text(app))
    assert rung == []


SCRIPT = """
import asyncio, fakes
from plt_tui.config.schema import UiSection
from plt_tui.protocol.events import CheckpointFailed
from plt_tui.views.tui.app import RunApp
source = fakes.FakeSource(fakes.training())

async def connect():
    async def fail_once_nobody_looks():
        while app.app_focus:
            await asyncio.sleep(0.01)
        source.feed(CheckpointFailed(step=9, reason="full\\x1b]0;owned\\x07\\x9c\\nboom"))
    connect.task = asyncio.ensure_future(fail_once_nobody_looks())
    return source

app = RunApp(connect, name="quickstart", ui=UiSection(), config=fakes.CONFIG)
app.run()
"""


@pytest.mark.parametrize("tmux", ["", "/tmp/tmux,1,0"], ids=["plain", "tmux"])
def test_a_real_terminal_is_called(tmux: str) -> None:
    """After its report that it lost the focus it gets the bell and one notification, whose text is harmless."""
    with running(SCRIPT, environ={**TRUE_COLOR, "TMUX": tmux}) as (process, terminal):
        terminal.type(b"\x1b[O")
        text = b"plt-tui quickstart: step 9 not saved: full\\x1b]0;owned\\x07\\x9c boom"
        escape, end = (b"\x1bPtmux;\x1b\x1b", b"\x1b\\") if tmux else (b"\x1b", b"")
        terminal.read_until(b"\x07" + escape + b"]9;" + text + b"\x07" + end)
        assert terminal.received.count(b"]9;") == 1
        process.send_signal(signal.SIGTERM)
        assert terminal.wait(process) == 0
