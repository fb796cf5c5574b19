"""Promises of `cli.person`: what a person has chosen is there in every session, and no file of theirs stops a view."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from plt_tui.cli.person import HISTORY, LAYOUT, MAX_BYTES, at_terminal
from plt_tui.config.settings import settings_file, state_folder
from plt_tui.views.completion import HISTORY_LINES
from plt_tui.views.tui.layout import Layout, Sizes

CHOSEN = Layout(hidden=frozenset({"logs"}), sizes=Sizes(side=0.5), metrics=True, x_axis="tokens", smoothing=0.9)


def folder() -> Path:
    """Where this test's person keeps what is remembered."""
    found = state_folder(os.environ)
    assert found is not None
    return found


def test_a_person_who_changes_nothing_leaves_nothing_behind() -> None:
    """Not even a folder."""
    with at_terminal() as person:
        assert (person.layout, person.history) == (Layout(), ())
    assert not folder().exists()


def test_layout_and_lines_are_there_in_the_next_session() -> None:
    """In files that only the person can read."""
    with at_terminal() as person:
        person.layout = CHOSEN
        person.lines += ["pause", "note mine"]
    with at_terminal() as person:
        assert (person.layout, person.history) == (CHOSEN, ("pause", "note mine"))
    assert {path.name for path in folder().iterdir()} == {LAYOUT, HISTORY}
    assert {path.stat().st_mode & 0o777 for path in folder().iterdir()} == {0o600}


def test_they_are_kept_also_when_the_view_ends_by_an_error() -> None:
    """A lost terminal is no reason to forget."""

    def killed() -> None:
        with at_terminal() as person:
            person.layout = CHOSEN
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    with at_terminal() as person:
        assert person.layout == CHOSEN


def test_a_session_that_changed_nothing_leaves_the_files_alone() -> None:
    """What another session has written meanwhile is not taken back."""
    with at_terminal() as first:
        with at_terminal() as second:
            second.layout = CHOSEN
        assert first.layout == Layout()
    with at_terminal() as person:
        assert person.layout == CHOSEN


def test_sessions_side_by_side_lose_no_line_of_each_other() -> None:
    """Each adds its own to those that are in the file by then; and not more are kept than can be used."""
    with at_terminal() as first, at_terminal() as second:
        first.lines.append("pause")
        second.lines += ["resume", "pause"]
    with at_terminal() as person:
        assert sorted(person.history) == ["pause", "resume"]
        person.lines += [f"note {number}" for number in range(HISTORY_LINES)]
    assert len((folder() / HISTORY).read_text().splitlines()) == HISTORY_LINES


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 10_000, b"3", b'{"hidden": [3], "sizes": []}', b" " * (MAX_BYTES + 1)]
)
def test_files_of_others_are_ignored_and_replaced(content: bytes) -> None:
    """Corrupt, foreign or huge: the defaults hold, and the next change is kept all the same."""
    folder().mkdir(parents=True)
    for name in (LAYOUT, HISTORY):
        (folder() / name).write_bytes(content)
    with at_terminal() as person:
        assert person.layout == Layout()
        assert all(line.isprintable() for line in person.history)
        person.layout = CHOSEN
        person.lines.append("pause")
    with at_terminal() as person:
        assert person.layout == CHOSEN
        assert person.history[-1] == "pause"


def test_lines_that_a_terminal_would_act_on_are_not_taken_over() -> None:
    """A history file is text that anybody may have written."""
    folder().mkdir(parents=True)
    (folder() / HISTORY).write_text("pause\nnote \x1b]52;c;AAAA\x07\nnote \u202egnp\n", encoding="utf-8")
    with at_terminal() as person:
        assert person.history == ("pause",)


def test_a_folder_that_cannot_be_written_is_told_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence on stderr."""
    folder().parent.mkdir(parents=True)
    folder().write_text("a file where the folder should be")
    with at_terminal() as person:
        person.layout = replace(CHOSEN, metrics=False)
    told = capsys.readouterr()
    assert told.out == ""
    assert "not remembered" in told.err
    assert len(told.err.splitlines()) == 1


def test_without_a_home_nothing_is_read_or_written() -> None:
    """A container may know none."""
    with at_terminal({"HOME": "nowhere"}) as person:
        person.layout = CHOSEN
        assert person.settings.problems == ()


def test_settings_come_along() -> None:
    """And what is wrong with them."""
    path = settings_file(os.environ)
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_text('[ui]\ntheme = "nord"\nx = 1\n[keys]\npause = "f2"\n')
    with at_terminal() as person:
        assert person.settings.ui.theme == "nord"
        assert [key.id for key in person.settings.keys] == ["pause"]
        assert len(person.settings.problems) == 1


def test_the_layout_is_written_for_people_too() -> None:
    """Names and numbers in JSON."""
    with at_terminal() as person:
        person.layout = CHOSEN
    told = json.loads((folder() / LAYOUT).read_text())
    assert (told["hidden"], told["sizes"]["side"], told["x_axis"]) == (["logs"], 0.5, "tokens")
