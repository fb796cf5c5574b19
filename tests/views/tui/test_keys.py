"""The key table: what is pressed can be found, and what is found can be pressed."""

from collections import Counter
from pathlib import Path

import pytest

from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.keys import KEYS, PANE_KEYS, Key, bindings, footer, typing_bindings
from plt_tui.views.tui.panes.board import Board
from plt_tui.views.tui.panes.charts import Charts
from plt_tui.views.tui.panes.logs import Logs
from plt_tui.views.tui.panes.samples import Samples
from plt_tui.views.tui.screens.help import help_text
from plt_tui.views.tui.screens.run import RunScreen

README = Path(__file__).parents[3] / "README.md"
ACTORS = {"screen": RunScreen, "board": Board, "chart": Charts, "logs": Logs, "samples": Samples}


def test_ids_and_keys_are_unique() -> None:
    """No entry hides another."""
    assert max(Counter(key.id for key in KEYS).values()) == 1
    assert max(Counter(one for key in KEYS for one in key.keys.split(",")).values()) == 1


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.id)
def test_every_entry_is_complete(key: Key) -> None:
    """Each key has a label, a sentence that fits the help screen, an action of what it acts on and a line in the help."""
    assert key.label
    assert key.help.endswith(".")
    assert len(key.help) <= 64
    of_app, _, action = key.action.split("(")[0].rpartition(".")
    assert hasattr(RunApp if of_app else ACTORS[key.on], f"action_{action}")
    assert key.help in help_text().plain
    assert f"{key.shown}  {key.help}" in help_text().plain


def test_every_entry_is_bound_under_its_id() -> None:
    """A user's keymap can move any key by its id."""
    assert {binding.id for binding in bindings()} == {key.id for key in KEYS}  # type: ignore[union-attr]


def test_a_key_acts_at_once_unless_panes_have_a_use_for_it() -> None:
    """Nothing that is typed behind it is looked at before; both bindings of a key have its id, so a keymap moves both."""
    at_once = {binding.id for binding in typing_bindings(KEYS, PANE_KEYS) if binding.priority}  # type: ignore[union-attr]
    assert at_once == {key.id for key in KEYS if not PANE_KEYS & {*key.keys.split(",")}}
    assert {"left", "right", "home", "end", "escape"} == {key.keys for key in KEYS if key.id not in at_once}


@pytest.mark.parametrize("width", [0, 10, 40, 80, 140, 400])
def test_the_footer_never_overflows(width: int) -> None:
    """On a narrow terminal the less used keys go, none is cut."""
    shown = footer(width)
    assert sum(len(key.shown) + 1 + len(key.label) + 2 for key in shown) <= width
    assert [key.rank for key in shown] == list(range(1, len(shown) + 1))


def test_an_80_column_footer_holds_the_steering_keys_and_help() -> None:
    """The smallest full-size terminal still tells how to steer and where the rest is."""
    assert {"pause", "lr", "undo", "knobs", "checkpoint", "eval", "sample", "help"} <= {key.id for key in footer(78)}


def test_the_readme_lists_every_id() -> None:
    """Who wants other keys finds the names in one place, and none that does not exist."""
    text = README.read_text(encoding="utf-8")
    listed = text[text.index("Ids of keys:") :].split("\n\n")[0].split(":", 1)[1]
    assert sorted(listed.replace("`", " ").replace("·", " ").rstrip(".\n ").split()) == sorted(key.id for key in KEYS)
