"""Promises of the lab log: a run's whole story in order, what was changed around it, and nothing of it that can act."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from stories import BOB, at, command, recorded, session, steps, story

from plt_tui.protocol.events import End, Event, Failed, Phase
from plt_tui.views.report import curves, lab_log

EVIL = "x | y\n# h <script>a</script> [l](http://e.org) `c` *b* \x1b[2J\u202e"


def log_of(said: list[Event], curves_file: str = "") -> str:
    """The lab log of a record."""
    events, model = recorded(said)
    return lab_log(events, model, curves_file)


def section(text: str, title: str) -> list[str]:
    """The lines of the part of `text` under the heading that begins with `title`, up to the next heading."""
    lines = text.split("\n")
    start = next(index for index, line in enumerate(lines) if line.lstrip("# ").startswith(title))
    return [
        line for line in lines[start + 1 : next((i for i in range(start + 1, len(lines)) if lines[i][:1] == "#"), None)] if line
    ]


@pytest.mark.parametrize(
    "line",
    [
        "# Lab log of `big`",
        "| model | 820,224 parameters, 4 layers, 128 wide, 4 heads, 128 tokens of context |",
        "| data | builtin:python-docs: 1,000,000 tokens to train on, 50,000 held out, vocabulary of 257 |",
        "| ranks | 2 ranks on cpu |",
        "| environment | python `3.11.7`, torch `2.13.0`, threads `1` |",
        "| started | 2026-02-02 02:40:00 UTC |",
        "| lasted | 1m 11s (starting 14s, training 52s, paused 5.0s) |",
        "| steps | 60 of 60, 123k tokens |",
        "| training loss | last 3.400, lowest 3.400 |",
        "| best evaluation | loss 3.200, perplexity 24.53, 4.617 bits per byte, accuracy 50.0%, at step 60 |",
        "| happened | edits: 4, undone: 1, rewinds: 1, spikes: 1, acts of the guard: 1, restarts: 1, notes: 1 |",
        "| state | finished: target reached |",
        "| exit code | 0 |",
        "| weights | `ffee` |",
        "![Loss, learning rate and gradient norm over the steps](a%20b.svg)",
    ],
)
def test_the_head_says_what_the_run_is_and_became(line: str) -> None:
    """Model, data, machine, times, losses, counts, the end, and the picture."""
    assert line in log_of(story(), "a b.svg").split("\n")


def test_the_story_is_told_in_order() -> None:
    """A row for each event of the first session: when, at which step, by whom, what."""
    rows = [tuple(line.strip("| ").split(" | ")) for line in section(log_of(story()), "Session 1")[3:]]
    assert [(row[0][-8:], row[1].strip(), row[2].strip()) for row in rows] == [
        ("02:40:20", "10", ""),
        ("02:40:20", "10", ""),
        ("02:40:21", "11", "tui ana@box"),
        ("02:40:30", "20", "guard"),
        ("02:40:31", "21", "guard"),
        ("02:40:40", "10", "ctl bob@box"),
        ("02:40:50", "40", ""),
        ("02:40:50", "40", ""),
    ]
    beginnings = ("evaluated", "checkpoint", "`lr`", "**spike**", "`lr`", "**rewind**", "**rank 1 failed**", "restarting")
    assert all(row[3].startswith(words) for row, words in zip(rows, beginnings, strict=True))


def test_a_session_says_what_is_not_as_before() -> None:
    """Environment and configuration against the session before, which may have been weeks ago."""
    lines = section(log_of(story()), "Session 2")
    assert lines[:3] == [
        "It begins after step 10 with 2 ranks on cpu, resumed from `step-00000010`.",
        "- environment changed: `torch` `2.12.0` → `2.13.0`",
        "- configuration changed: `train.grad_clip` `1` → `0.5`",
    ]


def test_a_session_that_is_like_the_one_before_says_so() -> None:
    """Other ranks are a change; a record without configurations says nothing of them."""
    same = log_of([session(0), session(0)])
    assert section(same, "Session 2")[1] == "Environment and configuration are as before."
    other = log_of([session(0), session(0, world_size=1, config={})])
    assert section(other, "Session 2")[1:] == ["- environment changed: `ranks` `2` → `1`"]


def test_what_happened_before_the_first_session_is_told() -> None:
    """A run that never came to train has a lab log too."""
    log = log_of([Phase(time=at(0), phase="starting"), Failed(time=at(1), rank=0, message="no torch", exit_code=4)])
    assert "# Lab log of a run that has not begun to train" in log
    assert section(log, "What happened")[-1] == "| 2026-02-02 02:40:11 | 0 |  | **rank 0 failed**: no torch |"


def test_branches_are_listed_with_their_losses() -> None:
    """First and last step, the loss at both, who left it when, and what was edited on it."""
    assert section(log_of(story()), "Branches")[2:] == [
        "| 1 | 11 to 30 | 3.890 → 6.700 | 2026-02-02 02:40:40 | ctl bob@box | 5 | `lr` |"
    ]
    no_steps = [session(0), *command("rewind", 10, BOB, args={"step": 10}, before=30, after=10)]
    assert "| 1 | 11 to 30 | not in the record |" in log_of(no_steps)


def test_edits_in_force_at_the_end_are_listed() -> None:
    """Not those that were undone, nor those that a rewind left; the learning rate as it is now."""
    assert section(log_of(story()), "Edits in force")[2:] == ["| `grad_clip` | `0.5` | `0.3` | 51 | ctl bob@box |"]
    scaled = command("set", 3, args={"name": "lr", "value": 0.5, "mode": "scale"}, before=6e-3, after=3e-3)
    rows = section(log_of([session(0), *steps(1, 2), *scaled, *steps(3, 4)]), "Edits in force")
    assert rows[2].startswith("| `lr` | `0.003` | `0.003` (times 0.5 from there on) | 3 |")
    assert "Edits in force" not in log_of([session(0), *steps(1, 2)])


def test_nothing_of_a_record_acts_in_the_document() -> None:
    """Names, notes, actors, reasons and values with markup and escapes: the tables keep their columns, and no tag appears."""
    evil = session(0, name=EVIL, dir=EVIL, environment={EVIL: EVIL}, config={"data": {"train": EVIL}, EVIL: EVIL}, device=EVIL)
    said: list[Event] = [
        evil,
        *command("note", 1, EVIL, args={"text": EVIL}),
        *command("set", 1, EVIL, args={"name": "prompt", "value": EVIL}, before=EVIL, after=EVIL, reason=EVIL),
        *command("rewind", 1, EVIL, args={"step": 1}, before=3, reason=EVIL),
        *command(EVIL, 1, EVIL, args={EVIL: EVIL}, status="refused", reason=EVIL),
        replace(evil, environment={EVIL: 1}, resumed_from=EVIL),
        *command("set", 1, EVIL, id="p", args={"name": "prompt", "value": EVIL}, before=EVIL, after=EVIL),
        End(phase="failed", step=3, exit_code=4, reason=EVIL, weights_sha256=EVIL),
    ]
    text = log_of(said)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [child for token in tokens if token.type == "inline" for child in token.children or []]
    assert {child.content for child in inline if child.type == "html_inline"} == {"<br>"}
    assert {child.type for child in inline} <= {
        "text",
        "text_special",
        "html_inline",
        "code_inline",
        "strong_open",
        "strong_close",
    }
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2", "h3", "h3", "h2", "h2"]
    assert "\x1b" not in text
    assert "\u202e" not in text
    for before, line in pairwise(text.split("\n")):
        if before.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line))


def test_a_note_is_told_in_full() -> None:
    """However long it is."""
    text = "word " * 2000
    assert text.strip() in log_of([session(0), *command("note", 1, args={"text": text})])


def test_the_same_record_gives_the_same_document() -> None:
    """No clock, no order of a set."""
    assert log_of(story()) == log_of(story())


def test_the_curves_show_the_line_its_branches_and_what_was_done() -> None:
    """A letter for each edit, rewind, spike and new session, by step, and its words in the legend."""
    events, model = recorded(story())
    root = ElementTree.fromstring(curves(events, model))
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words[:2] == ["big", "820k parameters, 2 ranks on cpu, 60 of 60 steps: finished"]
    assert [text for text in words if re.match(r"step \d", text)] == [
        "step 10: back from step 30, 5 batches left out (ctl bob@box)",
        "step 10: new session after rank 1 failed: ended by SIGKILL",
        "step 11: lr 0.003 → 0.0015 (tui ana@box)",
        "step 20: lower: loss 8.2 is 9.3 standard deviations up",
        "step 21: lr 0.0015 → 0.00075 (guard)",
        "step 51: grad_clip 0.5 → 0.3 (ctl bob@box)",
        "step 51: betas 0.9, 0.95 → 0.8, 0.95 (tui ana@box)",
        "step 52: undo: betas 0.8, 0.95 → 0.9, 0.95 (tui ana@box)",
    ]
    assert "left behind by a rewind" in words
    assert "evaluation" in words


def test_a_run_without_steps_has_an_empty_picture() -> None:
    """There is a picture for every lab log."""
    events, model = recorded([Phase(time=at(0), phase="failed", reason="no data")])
    assert "nothing to show" in curves(events, model)


def test_a_run_event_is_no_row() -> None:
    """It is the heading of its session."""
    assert section(log_of([session(0)]), "Session 1") == ["It begins after step 0 with 2 ranks on cpu."]
