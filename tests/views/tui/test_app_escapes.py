"""Hostile texts under a real pseudo-terminal: the app sends no sequence that it would not send without them."""

from __future__ import annotations

import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import hostile
import pytest
from pseudo_terminal import running

from tests.escape_sequences import sequences

SCRIPT = """
import sys
import driving, fakes, hostile
from plt_tui.config.alerts import AlertsSection
from plt_tui.config.schema import UiSection
from plt_tui.views.tui.app import RunApp
texts = {texts}
source = fakes.FakeSource(hostile.story(texts))
everything = " ".join(texts)
config = fakes.CONFIG.model_copy(update={{
    "alerts": AlertsSection(bell="always"),
    "sample": fakes.CONFIG.sample.model_copy(update={{"prompt": everything}}),
}})
app = RunApp(source.connect, name=everything, ui=UiSection(), config=config, actor=everything)

async def drive(pilot):
    await driving.until(pilot, lambda: len(app.screen_stack) > 1 and driving.run_screen(app).session.model.is_live)
    for key in {keys}:
        if key == "news":
            source.feed(*hostile.news(texts))
        else:
            await pilot.press(key)
        for _ in range(2):
            driving.run_screen(app).tick()
            await pilot.pause()
    await driving.until_seen(pilot, "copied: ")
    app.exit()

app.run(auto_pilot=drive)
"""
KEYS = (
    *("slash", "escape", "z", "z", "tab", "z", "less_than_sign", "D", "z", "tab", "z", "z"),
    *("m", "right_square_bracket", "m", "comma", "comma", "x", "slash", "x", "1", "enter", "N", "f", "R", "L"),
    *("l", "escape", "e", "end", "up", "up", "up", "escape", "r", "escape", "n", "escape", "b", "escape", "i", "escape"),
    *("G", "escape", "colon", "s", "e", "t", "space", "tab", "escape", "question_mark", "escape"),
    *("ctrl+p", "s", "escape", "escape", "news", "escape", "Y"),
)
"""Through all panes, large and small, all dialogs, the search, the help and the palette."""
SESSION_S = 300.0
"""How long all keys may take on a machine that has other things to do."""


def session(texts: list[str]) -> str:
    """Everything that the app sends while all keys are pressed."""
    with running(SCRIPT.format(texts=ascii(texts), keys=KEYS), size=(140, 45)) as (process, terminal):
        assert terminal.wait(process, SESSION_S) == 0, terminal.received[-2000:]
        return terminal.received.decode()


@pytest.fixture(scope="module")
def outputs() -> dict[str, tuple[set[str], str]]:
    """What is sent in a session with hostile texts and in one with harmless ones, side by side."""
    cases = {"hostile": list(hostile.TEXTS.values()), "harmless": hostile.harmless()}
    with ThreadPoolExecutor() as threads:
        return dict(zip(cases, map(sequences, threads.map(session, cases.values())), strict=True))


@pytest.mark.timeout(2 * SESSION_S)  # whichever comes first waits for `outputs`
def test_hostile_texts_add_no_sequence(outputs: dict[str, tuple[set[str], str]]) -> None:
    """Modes, titles, links, clipboard, questions, strings: what is sent is what is sent without them."""
    (said, _), (usual, _) = outputs["hostile"], outputs["harmless"]
    assert said - usual == set()
    assert {"CSI ?1049h", "SGR 1", "]52", "]9", "]11;?"} <= usual


@pytest.mark.timeout(2 * SESSION_S)
def test_hostile_texts_add_no_control_or_invisible_character(outputs: dict[str, tuple[set[str], str]]) -> None:
    """Between the sequences stands what can be seen, and the few controls that drawing needs; no line grows by marks."""
    (_, text), (_, usual) = outputs["hostile"], outputs["harmless"]
    unseen = {char for char in text if not char.isprintable() and unicodedata.category(char) != "Zs"}
    assert unseen <= {char for char in usual if not char.isprintable()}
    assert not re.search("[\u0301\u0489\u20dd]{9}", text)


@pytest.mark.timeout(2 * SESSION_S)
def test_hostile_texts_are_shown_as_what_they_are(outputs: dict[str, tuple[set[str], str]]) -> None:
    """The filter hides nothing: every class was on the screen, escaped, so that the comparison means something."""
    _, text = outputs["hostile"]
    for shown in (
        "\\x1b[2J",
        "\\x1b]0;owned",
        "\\x9b2J",
        "\\u202e",
        "\\u200b",
        "\\x1bP0;1q",
        "\\x1b_Gf",
        "\\udc1b",
        "[bold red]x[/]",
    ):
        assert shown in text, shown


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS)
def test_the_comparison_would_find_it(text: str) -> None:
    """A class that does something to a terminal is seen by this test's own eyes: as a sequence, or as a character."""
    if text.isprintable() and "\u0301" not in text:
        return
    kinds, rest = sequences(text.encode(errors="surrogatepass").decode(errors="replace") if "\udc1b" in text else text)
    unseen = {char for char in rest if not char.isprintable() and unicodedata.category(char) != "Zs"}
    assert kinds or unseen or re.search("[\u0301\u0489\u20dd]{9}", rest)
