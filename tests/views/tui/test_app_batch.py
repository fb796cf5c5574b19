"""The texts of a step: which step, what is told of it, and what becomes of a reader that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import fakes
import pytest
import scenes
from driving import COMPACT, WIDE, driven, run_screen, screen_lines, screen_text, until, until_seen
from textual.pilot import Pilot

from plt_tui.errors import DataError
from plt_tui.protocol.events import CommandStatus, Spike
from plt_tui.views.files import GaveUp, RunFiles, StepTexts, Tell, TrainedText
from plt_tui.views.model import RunModel
from plt_tui.views.tui.marks import branch_of
from plt_tui.views.tui.panes.text_view import TextView
from plt_tui.views.tui.screens.batch import MAX_SHOWN_CHARS, BatchDialog, counts, passages, wanted_step

Read = Callable[[int, int, Tell], StepTexts]


def texts(step: int, branch: int = 0, *, num: int = 4, text: str = "the fox jumps") -> StepTexts:
    """What a step trained on."""
    rows = [
        TrainedText(rank=i % 2, micro_step=i // 2, sample=8 * step + i, corpus="", num_tokens=16, text=f"{text} {i}")
        for i in range(num)
    ]
    return StepTexts(step=step, branch=branch, spikes=(), sequences=tuple(rows))


def at_once(step: int, branch: int, tell: Tell) -> StepTexts:
    """Reads without delay."""
    return texts(step, branch)


@asynccontextmanager
async def opened(
    read: Read, history: list[fakes.Event], *, size: tuple[int, int] = WIDE, pointed: int | None = None
) -> AsyncIterator[Pilot[object]]:
    """The app with the dialog open."""

    def never(*_: object) -> None:
        raise AssertionError

    async with driven(history, size=size) as (pilot, _):
        screen = run_screen(pilot.app)
        screen.session.files = RunFiles(last_words=never, texts=read)
        screen.board.pointed = pointed
        await pilot.press("b")
        await until(pilot, lambda: isinstance(pilot.app.screen, BatchDialog))
        yield pilot


def asked_for(asked: list[tuple[int, int]]) -> Read:
    """Keeps what it was asked for."""

    def read(step: int, branch: int, tell: Tell) -> StepTexts:
        asked.append((step, branch))
        return texts(step, branch)

    return read


@pytest.mark.parametrize("size", [(200, 60), COMPACT, (60, 16)])
async def test_each_text_stands_under_a_line_that_says_whose_it_was(size: tuple[int, int]) -> None:
    """The step with what was measured in it, how much text there is, and the sequences; nothing is cut at the side."""
    async with opened(at_once, fakes.training(), size=size) as pilot:
        await until_seen(pilot, "4 sequences, 64 tokens, 2 ranks")
        text = screen_text(pilot.app)
        for words in (
            "step 600 · loss 1.",
            "gradient norm",
            "rank 0 · micro-step 0 · sample 4,800 · 16 tokens",
            "the fox jumps 0",
        ):
            assert words in text
        assert [len(line) for line in screen_lines(pilot.app)] == [size[0]] * size[1]


@pytest.mark.parametrize(
    ("history", "pointed", "wanted"),
    [
        (fakes.training, None, (600, 0)),
        (fakes.training, 123, (123, 0)),
        (scenes.rewound, None, (scenes.SPIKED_AT, 1)),
        (scenes.rewound, scenes.SPIKED_AT, (scenes.SPIKED_AT, 1)),
        (scenes.rewound, 450, (450, 0)),
        (fakes.training, 0, (1, 0)),
    ],
)
async def test_it_opens_on_the_step_pointed_at_else_on_the_newest_spike(
    history: Callable[[], list[fakes.Event]], pointed: int | None, wanted: tuple[int, int]
) -> None:
    """A spike that a rewind took back is looked for on its branch; without one it is the newest step."""
    asked: list[tuple[int, int]] = []
    async with opened(asked_for(asked), history(), pointed=pointed) as pilot:
        await until_seen(pilot, "4 sequences")
        assert asked == [wanted]
        assert f"step {wanted[0]}{' on branch 1' if wanted[1] else ''} · loss" in screen_text(pilot.app)


async def test_arrows_go_to_the_steps_beside_it() -> None:
    """Never before the first one."""
    asked: list[tuple[int, int]] = []
    async with opened(asked_for(asked), fakes.training(), pointed=2) as pilot:
        for key, step in (("right", 3), ("left", 2), ("left", 1), ("left", 1)):
            await pilot.press(key)
            await until_seen(pilot, f"sample {8 * step} ")
        assert asked == [(2, 0), (3, 0), (2, 0), (1, 0), (1, 0)]


async def test_what_cannot_be_read_is_told_in_the_dialog() -> None:
    """The run goes on, and so does the view; another step can be tried."""

    def read(step: int, branch: int, tell: Tell) -> StepTexts:
        if step == 600:
            raise DataError("a.txt: changed since quickstart trained on it; bring the old files back\x1b[2J")
        return texts(step, branch)

    async with opened(read, fakes.training(), size=COMPACT) as pilot:
        await until_seen(pilot, "a.txt: changed since quickstart trained on it; bring the old files")
        assert pilot.app.screen.query_one("#verdict").has_class("bad")
        await pilot.press("left")
        await until_seen(pilot, "4 sequences")
        assert not pilot.app.screen.query_one("#verdict").has_class("bad")
        await pilot.press("b")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)


async def test_a_view_without_the_files_says_so() -> None:
    """As one of a run on another machine."""
    async with driven(fakes.training()) as (pilot, _):
        await pilot.press("b")
        await until_seen(pilot, "this view has no access to the run's files")


async def test_before_the_first_step_there_is_nothing_to_show() -> None:
    """The answer says so, and no dialog opens."""
    async with driven(fakes.opening()) as (pilot, _):
        await pilot.press("b")
        await until_seen(pilot, "texts: no step was made yet")
        assert len(pilot.app.screen_stack) == 2


async def test_long_reading_is_told_and_ends_when_nobody_waits_for_it() -> None:
    """Neither the next step nor the end of the view waits for a corpus that is tokenised again."""
    gave_up, first = threading.Event(), threading.Event()

    def read(step: int, branch: int, tell: Tell) -> StepTexts:
        if first.is_set():
            return texts(step, branch)
        first.set()
        try:
            while True:
                tell("tokenising 43%")
                gave_up.wait(0.005)
        except GaveUp:
            gave_up.set()
            raise

    async with opened(read, fakes.training()) as pilot:
        await until_seen(pilot, "tokenising 43% …")
        await pilot.press("left")
        await until_seen(pilot, "4 sequences")
        assert gave_up.wait(5)
        first.clear()
        gave_up.clear()
        await pilot.press("left")
        await until_seen(pilot, "tokenising 43% …")
        await pilot.press("escape")
        await until(pilot, gave_up.is_set)


async def test_a_huge_batch_is_cut_evenly() -> None:
    """What is left out of each sequence is counted."""
    async with opened(lambda *_: texts(1, num=64, text="word " * 10_000), fakes.training()) as pilot:
        await until_seen(pilot, "64 sequences")
        await pilot.press("end")
        await until_seen(pilot, f"(+{50_003 - MAX_SHOWN_CHARS // 64:,} characters)")


def test_the_guards_words_come_first_and_a_corpus_is_named() -> None:
    """Where there are several."""
    row = TrainedText(rank=0, micro_step=1, sample=4187, corpus="b.txt", num_tokens=1024, text="x")
    found = StepTexts(step=5, branch=0, spikes=("step 5: loss nan",), sequences=(row,))
    assert counts(found) == "step 5: loss nan\n1 sequence, 1,024 tokens, 1 rank"
    assert passages(found)[0].heading == "rank 0 · micro-step 1 · sample 4,187 · 1,024 tokens · corpus b.txt"


def spike(step: int, time: float) -> Spike:
    """The guard says something about a step."""
    return Spike(time=time, step=step, what="loss", value=9.0, z=7.0, act="warn")


def rewind(step: int, before: int, time: float) -> CommandStatus:
    """The run goes back."""
    args = {"step": step}
    return CommandStatus(
        time=time, id=str(time), name="rewind", args=args, actor="x", status="applied", step=step, before=before, after=step
    )


@pytest.mark.parametrize(
    ("found", "branch"),
    [
        (spike(7, 1.0), 1),  # left by the first rewind, with all after step 4
        (spike(3, 1.0), 2),  # which the second one left
        (spike(5, 2.5), 2),  # computed again, then left
        (spike(5, 4.0), 0),
        (spike(1, 1.0), 0),
    ],
)
def test_a_spike_is_found_on_the_line_that_it_happened_on(found: Spike, branch: int) -> None:
    """Steps of one number can have been computed often, from other texts."""
    model = RunModel()
    for event in (rewind(4, 9, 2.0), rewind(2, 6, 3.0), found):
        model.fold(event)
    assert branch_of(model.state, found) == branch
    assert wanted_step(model, None) == wanted_step(model, found.step) == (found.step, branch)


async def test_the_texts_can_be_copied() -> None:
    """All of them, or what the mouse has marked; the clipboard gets no line breaks of the page."""
    async with opened(at_once, fakes.training()) as pilot:
        await until_seen(pilot, "4 sequences")
        await pilot.press("Y")
        await until(pilot, lambda: pilot.app.clipboard)
        copied = pilot.app.clipboard.splitlines()
        assert copied[:2] == ["rank 0 · micro-step 0 · sample 4,800 · 16 tokens", "the fox jumps 0"]
        assert copied[-1] == "the fox jumps 3"
        view = pilot.app.screen.query_one(TextView)
        await pilot.mouse_down(view, offset=(4, 1))
        await pilot.hover(view, offset=(6, 1))
        await pilot.mouse_up(view, offset=(6, 1))
        await pilot.press("Y")
        assert pilot.app.clipboard == "fox"
        assert isinstance(pilot.app.screen, BatchDialog)
