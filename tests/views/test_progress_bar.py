"""Progress bars in log lines: what is one, and what goes on with which."""

import pytest

from plt_tui.views.progress_bar import Bar, bar_of, continues

BARS = {
    "Epoch 1:  10%|█         | 10/100 [00:01<00:09,  9.9it/s]": Bar("Epoch 1:", 10.0, True),
    " 42%|####2     | 42/100 [00:01<00:09,  9.9it/s]": Bar("", 42.0, True),
    "Map (num_proc=2): 100%|██████████| 1.2k/1.2k [00:00<00:00]": Bar("Map (num_proc=2):", 100.0, True),
    "Map:  30%|███       | 300/1,000 [00:00<00:00]": Bar("Map:", 30.0, True),
    "reading: 123it [00:01, 99.1it/s]": Bar("reading:", 123.0, False),
    "10/100 [==>...........................] - ETA: 3s - loss: 0.3": Bar("", 10.0, True),
    "1/4 ━━━━━━━━━━━━━━━━━━━━ 3s 30ms/step - loss: 1.0": Bar("", 25.0, True),
    "   ━━━━━━━╸━━━━━━━━ 10.5/42.0 MB 3.1 MB/s eta 0:00:11": Bar("", 25.0, True),
    "Downloading ━━━━━━━━ 50% 0:00:02": Bar("Downloading", 50.0, True),
    "[00:00:03] ████████░░░░ 20/40 tokenising": Bar("", 50.0, True),
    "wiki.bin  12%[===>                ] 1.2M": Bar("wiki.bin", 12.0, True),
    "[####----]  50%": Bar("", 50.0, True),
}
NO_BARS = [
    "",
    "step 3/100 loss 2.31 lr 0.001",
    "data 1% [rank 0]",
    "accuracy 43.1% | loss 2.3",
    "| 10% | 3/4 |",
    "|------|-----|",
    "[-----------]",
    "════════ 10/100 ═",
    "read [a/b/c] 10% of it",
    "100%",
    "division by 0/0 [        ]",
]


@pytest.mark.parametrize(("text", "bar"), BARS.items())
def test_the_bars_of_common_tools_are_known(text: str, bar: Bar) -> None:
    """What stands before the drawing names it, and percent or count say how far it is."""
    assert bar_of(text) == bar


@pytest.mark.parametrize("text", NO_BARS)
def test_a_line_with_numbers_is_no_bar(text: str) -> None:
    """Nothing that a person may want to read line by line is taken for a drawing."""
    assert bar_of(text) is None


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (Bar("a", 10, True), Bar("a", 20, True), True),
        (Bar("a", 10, True), Bar("a", 10, True), True),
        (Bar("a", 10, True), Bar("a", 100, True), True),
        (Bar("a", 100, True), Bar("a", 100, True), False),
        (Bar("a", 100, True), Bar("a", 0, True), False),
        (Bar("a", 50, True), Bar("a", 10, True), False),
        (Bar("a", 10, True), Bar("b", 20, True), False),
        (Bar("a", 10, False), Bar("a", 200, False), True),
        (Bar("a", 200, False), Bar("a", 300, False), True),
        (Bar("a", 200, False), Bar("a", 10, False), False),
        (Bar("a", 10, True), Bar("a", 20, False), False),
    ],
)
def test_a_bar_goes_on_and_another_one_begins(before: Bar, after: Bar, same: bool) -> None:
    """Only a later state of the same bar is the same; a full one is over."""
    assert continues(before, after) is same
