"""The samples on a scripted run: walked through by step, compared by word, and the prompt changed live."""

import fakes
import pytest
from driving import driven, run_screen, screen_lines, until, until_seen
from textual.pilot import Pilot
from textual.widgets import Input

from plt_tui.config.schema import RunConfig
from plt_tui.protocol.events import CommandStatus, End, Event, Sample
from plt_tui.views.tui.panes.samples import Samples
from plt_tui.views.tui.screens.prompt import PromptDialog, as_meant, as_typed


def place_of(pilot: Pilot) -> str:
    """What stands in the pane's lower border."""
    region = pane(pilot).region
    return screen_lines(pilot.app)[region.bottom - 1][region.x : region.right].strip("╰╯─ ")


def sample(step: int, text: str, prompt: str = "The ") -> Sample:
    """What the model wrote at `step`."""
    return Sample(time=fakes.at(step), step=step, prompt=prompt, text=text)


def pane(pilot: Pilot) -> Samples:
    """The pane."""
    return run_screen(pilot.app).board.samples


def told(pilot: Pilot) -> str:
    """What the pane says, wrapped or not."""
    return " ".join(pane(pilot)._block.visual.plain.split())  # type: ignore[attr-defined]  # it shows a Content


def story() -> list[Event]:
    """Steps 1 to 100 with four samples of two prompts."""
    return [
        *fakes.opening(),
        *fakes.steps(1, 99),
        sample(20, "cat sat down"),
        sample(20, "2 = 3", prompt="1 + "),
        sample(40, "cat sat up"),
        sample(60, "cat sat up"),
    ]


async def test_samples_are_walked_through_by_step() -> None:
    """< shows the newest alone, then older ones up to the first; > goes back to newer ones and to the list."""
    async with driven(story()) as (pilot, source):
        assert told(pilot).startswith("step 60")
        assert "step 20" in told(pilot)
        for place, start in (("4 of 4", "step 60"), ("3 of 4", "step 40"), ("2 of 4", "step 20"), ("1 of 4", "step 20")):
            await pilot.press("less_than_sign")
            await until(pilot, lambda place=place: place_of(pilot) == place)
            assert told(pilot).startswith(start)
            assert told(pilot).count("step ") == 1
        await pilot.press("less_than_sign", "greater_than_sign")
        await until(pilot, lambda: place_of(pilot) == "2 of 4")
        source.feed(sample(80, "cat stood"))
        await until(pilot, lambda: place_of(pilot) == "2 of 5")
        assert "1 + 2 = 3" in told(pilot)
        await pilot.press(*["greater_than_sign"] * 5)
        await until(pilot, lambda: told(pilot).count("step ") == 5)
        assert place_of(pilot) == ""


async def test_walking_through_the_samples_points_at_their_steps() -> None:
    """Chart and logs follow; behind the newest sample nothing is pointed at any more."""
    async with driven(story()) as (pilot, _):
        board = run_screen(pilot.app).board
        for key, step in (
            ("less_than_sign", 60),
            ("less_than_sign", 40),
            ("greater_than_sign", 60),
            ("greater_than_sign", None),
        ):
            await pilot.press(key)
            await until(pilot, lambda step=step: board.pointed == step)
        await until(pilot, lambda: told(pilot).count("step ") == 4)


async def test_the_sample_of_the_step_pointed_at_is_shown() -> None:
    """The newest one up to it; before the first one the pane says that there is none; pointing at nothing lists all."""
    async with driven(story()) as (pilot, _):
        board = run_screen(pilot.app).board
        for step, start in ((59, "step 40"), (60, "step 60"), (19, "no sample up to step 19"), (20, "step 20 ")):
            board.pointed = step
            await until(pilot, lambda start=start: told(pilot).startswith(start))
            assert told(pilot).count("step ") == 1
        board.pointed = None
        await until(pilot, lambda: told(pilot).count("step ") == 4)


async def test_what_is_another_word_is_marked() -> None:
    """Against the sample before of the same prompt, by signs as well as by colour; D again shows the text alone."""
    async with driven(story()) as (pilot, _):
        await pilot.press("D")
        await until(pilot, lambda: "the same as step 40" in told(pilot))
        assert place_of(pilot) == "differences · 4 of 4"
        await pilot.press("less_than_sign")
        await until(pilot, lambda: "against step 20" in told(pilot))
        assert told(pilot).endswith("The cat sat [-down-]{+up+}")
        await pilot.press("less_than_sign")
        await until(pilot, lambda: "nothing before it continues this prompt" in told(pilot))
        assert told(pilot).endswith("1 + 2 = 3")
        await pilot.press("D", "greater_than_sign")
        await until(pilot, lambda: told(pilot).endswith("The cat sat up"))


async def test_a_sample_that_a_rewind_left_says_so() -> None:
    """It can still be read, and the step of the line has its own."""
    back = fakes.command("r", "rewind", {"step": 30}, 99)
    applied = [event for event in back if isinstance(event, CommandStatus) and event.status == "applied"]
    async with driven([*story(), *(fakes.dataclasses.replace(event, step=30, before=99) for event in applied)]) as (pilot, _):
        await pilot.press("less_than_sign")
        await until(pilot, lambda: "step 60 " in told(pilot) and "left by a rewind or a restart" in told(pilot))
        run_screen(pilot.app).board.pointed = 90
        await until(pilot, lambda: told(pilot).startswith("step 20 "))


async def test_markup_in_a_sample_is_text_in_a_difference_too() -> None:
    """The signs are ours, what stands between them is the model's."""
    events = [*fakes.opening(), sample(20, "[red]a[/red]"), sample(40, "[b]a[/b] \x1b[2J")]
    async with driven(events) as (pilot, _):
        await pilot.press("D")
        await until_seen(pilot, "[-[red]a[/red]-]{+[b]a[/b] \\x1b[2J+}")


async def test_without_a_sample_the_keys_do_nothing() -> None:
    """Nothing to walk through, nothing to compare; who may ask for one is told how."""
    async with driven([*fakes.opening(), *fakes.steps(1, 50)]) as (pilot, _):
        await pilot.press("less_than_sign", "greater_than_sign", "D")
        await until_seen(pilot, "no sample yet: g writes one now")
    stopped = End(time=fakes.at(51), phase="stopped", step=50, exit_code=143)
    async with driven([*fakes.opening(), *fakes.steps(1, 50), stopped]) as (pilot, _):
        await until(pilot, lambda: told(pilot) == "no sample yet")


@pytest.mark.parametrize("config", [fakes.CONFIG, None], ids=["configured", "unknown"])
async def test_the_prompt_is_edited_live(config: RunConfig | None) -> None:
    """G opens the prompt in force; enter sets it and asks for a sample of exactly this prompt."""
    async with driven(fakes.training(), config=config) as (pilot, source):
        await pilot.press("G")
        await until(pilot, lambda: isinstance(pilot.app.screen, PromptDialog))
        assert pilot.app.screen.query_one(Input).value == ("The " if config is not None else "")
        await pilot.press("ctrl+a", "ctrl+k", *"def f(x):", "backslash", "n", "enter")
        await until(pilot, lambda: len(source.sent) == 2)
        assert [(sent.name, sent.args) for sent in source.sent] == [
            ("set", {"name": "prompt", "value": "def f(x):\n"}),
            ("sample", {"prompt": "def f(x):\n"}),
        ]


async def test_the_prompt_in_force_is_offered() -> None:
    """An edit of the prompt is where the next edit begins; escape changes nothing."""
    edit = fakes.command("e", "set", {"name": "prompt", "value": "a\tb"}, 300)
    async with driven([*fakes.training(), *edit]) as (pilot, source):
        await pilot.press("G")
        await until(pilot, lambda: isinstance(pilot.app.screen, PromptDialog))
        assert pilot.app.screen.query_one(Input).value == "a\\tb"
        await pilot.press("x", "escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, PromptDialog))
        assert source.sent == []


async def test_a_prompt_that_is_too_long_is_not_sent() -> None:
    """What a rank would refuse is said while it is typed."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("G")
        await until(pilot, lambda: isinstance(pilot.app.screen, PromptDialog))
        pilot.app.screen.query_one(Input).value = "x" * 1001
        await until_seen(pilot, "at most 1000 characters")
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, PromptDialog)
        assert source.sent == []


PROMPTS = [
    "",
    "The ",
    "a\nb\tc",
    "\\n",
    "\\",
    "C:\\new\\table",
    "\x1b[2J",
    "\u200b\u202e",
    "\U000e0001",
    "猫 é",
    "\\x41",
    "\r\x00\x7f\x9b",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_that_is_not_touched_comes_back(prompt: str) -> None:
    """Through one line without a character that a terminal would act on."""
    assert as_typed(prompt).isprintable()
    assert as_meant(as_typed(prompt)) == prompt


@pytest.mark.parametrize(
    ("typed", "meant"), [("a\\d", "a\\d"), ("\\ud800", "\\ud800"), ("\\Uffffffff", "\\Uffffffff"), ("\\x4", "\\x4")]
)
def test_a_backslash_that_begins_nothing_is_one(typed: str, meant: str) -> None:
    """Nobody has to double it, and nothing that cannot be sent comes of it."""
    assert as_meant(typed) == meant
