"""SampleShelf: all that the model wrote, by step and by prompt."""

import pytest

from plt_tui.protocol.events import Sample
from plt_tui.views.sample_shelf import SampleShelf


def shelf_of(*samples: tuple[int, str]) -> SampleShelf:
    """Samples by step and prompt."""
    shelf = SampleShelf()
    for step, prompt in samples:
        shelf.add(Sample(step=step, prompt=prompt, text=f"text of {step}"))
    return shelf


@pytest.mark.parametrize(("step", "number"), [(99, None), (100, 0), (150, 0), (200, 2), (299, 2), (300, 3), (9999, 3)])
def test_a_step_has_what_was_written_then_or_last_before(step: int, number: int | None) -> None:
    """Of two samples of one step it is the later one."""
    assert shelf_of((100, "a"), (200, "a"), (200, "b"), (300, "a")).at(step) == number


def test_what_a_rewind_left_is_not_on_the_line() -> None:
    """It stays on the shelf, marked; a step has what its own line wrote."""
    shelf = shelf_of((100, "a"), (200, "a"), (300, "a"))
    shelf.leave(150)
    assert [shelf.is_left(number) for number in range(3)] == [False, True, True]
    assert shelf.at(300) == 0
    shelf.add(Sample(step=200, prompt="a", text="again"))
    assert shelf.at(300) == 3
    assert not shelf.is_left(3)


def test_the_sample_before_continues_the_same_prompt() -> None:
    """Two prompts in turn are two stories."""
    shelf = shelf_of((100, "a"), (100, "b"), (200, "a"), (200, "b"), (300, "c"))
    assert [shelf.before(number) for number in range(5)] == [None, None, 0, 1, None]


def test_the_newest_text_stays_when_there_is_too_much() -> None:
    """Numbers stay right, and one that is too large all by itself is kept."""
    shelf = SampleShelf(max_chars=1000)
    for step in range(100):
        shelf.add(Sample(step=step, prompt="p", text="x" * 99))
    assert (shelf.first, shelf.stop) == (90, 100)
    assert shelf[95].step == 95
    assert shelf.at(50) is None
    shelf.add(Sample(step=100, prompt="p", text="x" * 5000))
    assert [sample.step for sample in shelf.samples] == [100]
