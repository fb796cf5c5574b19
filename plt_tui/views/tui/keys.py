"""The keys of the run screen as one table; footer, help screen, command palette and bindings all read it.

Says nothing about what an action does: that is the screen's. Invariant: ids and keys are unique, and every entry has a
label and a help sentence, so whatever can be pressed can also be found and, by its id, be bound to another key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from textual.binding import Binding, BindingType
from textual.keys import format_key

Group = Literal["steer the run", "runs", "new run", "leave", "panes", "chart", "find", "take away", "help"]
On = Literal["screen", "board", "chart", "logs", "samples"]
"""Whose action it is, wherever the focus is: the run screen's, or that of a part of it."""
When = Literal["always", "steer", "awake"]
"""always; or on a connected, live run that this view may control; or on such a run while it has ranks, which a hibernated one
has not. At the other times a press is answered with why not."""

PANE_KEYS = frozenset({"left", "right", "home", "end", "escape"})
"""Keys that scroll panes of the run screen, or end a search in one."""
KEY_GAP = "  "
"""Between two keys of the footer."""
_SHOWN = {
    "plus": "+",
    "minus": "-",
    "slash": "/",
    "question_mark": "?",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "left": "←",
    "right": "→",
    "shift+tab": "⇧tab",
    "enter": "enter",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One binding."""

    id: str
    """Stable name, for keymaps."""
    keys: str
    """Textual key names, separated by commas; the first is shown."""
    action: str
    """Action of `on`."""
    label: str
    """One or two words for the footer."""
    help: str
    """One sentence for help and palette."""
    group: Group
    on: On = "screen"
    when: When = "always"
    rank: int = 0
    """Place in the footer, 1 first; 0: not in the footer."""

    @property
    def shown(self) -> str:
        """The first key as people write it."""
        key = self.keys.split(",")[0]
        modifiers, _, base = key.rpartition("+")
        before = f"{modifiers}+".replace("ctrl+", "^") if modifiers else ""
        return _SHOWN.get(key) or f"{before}{_SHOWN.get(base) or format_key(base)}"


def _steer(id: str, keys: str, action: str, label: str, help: str, rank: int, when: When = "awake") -> Key:  # noqa: A002
    return Key(id=id, keys=keys, action=action, label=label, help=help, group="steer the run", when=when, rank=rank)


def _view(group: Group, on: On, id: str, keys: str, action: str, label: str, help: str, rank: int = 0) -> Key:  # noqa: A002
    return Key(id=id, keys=keys, action=action, label=label, help=help, group=group, on=on, rank=rank)


def screen_key(group: Group, id: str, keys: str, action: str, label: str, help: str, rank: int = 0) -> Key:  # noqa: A002
    """A key of a screen that has a table of its own."""
    return _view(group, "screen", id, keys, action, label, help, rank)


KEYS: tuple[Key, ...] = (
    _steer("pause", "p", "toggle_pause", "pause", "Hold all ranks at the next step, or let them go on.", 1, "steer"),
    _steer("lr", "l", "edit_lr", "rate", "Change the learning rate; the schedule is drawn before Enter.", 2),
    _steer("undo", "u", "undo", "undo", "Take the last edit back.", 3),
    _steer("knobs", "e", "edit_knobs", "edit", "Change any other hyperparameter of the running training.", 4),
    _steer("rewind", "r", "rewind", "rewind", "Go back to an earlier step; what came after is a branch.", 5),
    _steer("checkpoint", "c", "steer('checkpoint')", "save", "Save a checkpoint now.", 6),
    _steer("eval", "v", "steer('eval')", "eval", "Evaluate on held-out text now.", 7),
    _steer("sample", "g", "steer('sample')", "sample", "Let the model write a sample now.", 8),
    _steer("edit_prompt", "G", "edit_prompt", "prompt", "Change the prompt of the samples and write one.", 0),
    _steer("note", "n", "note", "note", "Write a remark into the run's journal.", 10),
    _steer("hibernate", "H", "steer('hibernate')", "hibernate", "Save and free the devices until the run is resumed.", 16),
    _view(
        "leave", "screen", "detach", "d", "detach", "detach", "Close this view; the run goes on, attach again at any time.", 11
    ),
    _view("leave", "screen", "suspend", "ctrl+z", "app.suspend", "suspend", "Stop this view until fg; the run goes on."),
    _view("leave", "screen", "leave", "q,ctrl+c,ctrl+q", "leave", "leave", "Choose: detach, save and stop, or stop now.", 12),
    _view("panes", "board", "next_pane", "tab", "next_pane(1)", "next pane", "Go to the next pane.", 13),
    _view("panes", "board", "previous_pane", "shift+tab", "next_pane(-1)", "previous pane", "Go to the pane before."),
    _view("panes", "board", "pane_trends", "1", "toggle_pane('trends')", "trends", "Show or hide the trends."),
    _view(
        "panes",
        "board",
        "pane_machine",
        "2",
        "toggle_pane('machine')",
        "machine",
        "Show or hide the machine's gauges and the ranks.",
    ),
    _view("panes", "board", "pane_logs", "3", "toggle_pane('logs')", "logs", "Show or hide the logs."),
    _view("panes", "board", "pane_story", "4", "toggle_pane('story')", "story", "Show or hide samples and events."),
    _view(
        "panes", "board", "maximise", "z", "maximise", "zoom pane", "Give the focused pane all the room, or put it back.", 14
    ),
    _view("panes", "board", "narrower", "ctrl+left", "resize(-4, 0)", "narrower", "Make the focused pane narrower."),
    _view("panes", "board", "wider", "ctrl+right", "resize(4, 0)", "wider", "Make the focused pane wider."),
    _view("panes", "board", "taller", "ctrl+up", "resize(0, 2)", "taller", "Make the focused pane taller."),
    _view("panes", "board", "shorter", "ctrl+down", "resize(0, -2)", "shorter", "Make the focused pane shorter."),
    _view("panes", "board", "reset_layout", "0", "reset_layout", "reset panes", "Show all panes, each of its usual size."),
    _view("chart", "chart", "zoom_in", "plus,equals_sign", "zoom_in", "zoom in", "Show fewer steps, larger."),
    _view("chart", "chart", "zoom_out", "minus", "zoom_out", "zoom out", "Show more steps."),
    _view("chart", "chart", "pan_left", "left", "pan_left", "earlier", "Move the chart to earlier steps."),
    _view("chart", "chart", "pan_right", "right", "pan_right", "later", "Move the chart to later steps."),
    _view("chart", "chart", "view_start", "home", "view_start", "start", "Show the chart's start."),
    _view("chart", "chart", "view_tail", "end", "view_tail", "live tail", "Follow the newest steps again."),
    _view("chart", "chart", "axis", "x", "next_axis", "x axis", "Count steps, tokens, wall or active time on the x axis."),
    _view("chart", "chart", "log_axis", "y", "toggle_log", "log axis", "Switch the loss axis between linear and logarithmic."),
    _view("chart", "chart", "smoother", "s", "smoother", "smoother", "Smooth the curves more."),
    _view("chart", "chart", "rougher", "S", "rougher", "rougher", "Smooth the curves less."),
    _view("chart", "chart", "metrics", "m", "toggle_grid", "metrics", "Show small charts of all metrics, or one large chart."),
    _view("chart", "chart", "page_back", "left_square_bracket", "turn_page(-1)", "page back", "Show the metrics before these."),
    _view("chart", "chart", "page_on", "right_square_bracket", "turn_page(1)", "page on", "Show the metrics after these."),
    _view("chart", "board", "previous_mark", "comma", "next_mark(-1)", "mark before", "Point at the mark before, tell of it."),
    _view("chart", "board", "next_mark", "full_stop", "next_mark(1)", "next mark", "Point at the next mark, tell of it."),
    _view("chart", "board", "unpoint", "escape", "unpoint", "no mark", "Point at no step any more."),
    _view("find", "logs", "search", "slash", "search", "search", "Search the logs by a regular expression.", 15),
    _view("find", "logs", "next_hit", "N", "older_hit", "older hit", "Go to the next hit, towards older lines."),
    _view("find", "logs", "newer_hit", "M", "newer_hit", "newer hit", "Go to the next hit, towards newer lines."),
    _view("find", "logs", "log_filter", "f", "toggle_hits_only", "hits only", "Show only the log lines that match, or all."),
    _view("find", "logs", "log_source", "R", "next_source", "log source", "Show the log lines of all, the hub, or one rank."),
    _view("find", "logs", "log_level", "L", "next_level", "log level", "Show all log lines, warnings and worse, or errors."),
    _view(
        "find", "samples", "older_sample", "less_than_sign", "scrub(-1)", "older sample", "Show one sample, then older ones."
    ),
    _view(
        "find", "samples", "newer_sample", "greater_than_sign", "scrub(1)", "newer sample", "Show newer samples, at last all."
    ),
    _view("find", "samples", "sample_diff", "D", "toggle_diff", "differences", "Mark what is other than in the sample before."),
    _view("find", "screen", "batch", "b", "batch", "texts", "Show the texts of the step pointed at, or of a spike.", 17),
    _view("find", "screen", "configuration", "C", "configuration", "config", "All settings, and where each value came from."),
    _view("find", "screen", "outcome", "i", "outcome", "outcome", "How the run ended, or how far it is, and what next.", 18),
    _view("find", "screen", "command", "colon", "command", "command", "Type a command, as after plt-tui ctl.", 19),
    _view("take away", "screen", "screenshot", "P", "screenshot", "picture", "Keep an SVG of the screen beside the run."),
    _view("take away", "screen", "export_csv", "E", "export_csv", "numbers", "Keep a CSV of all steps and evaluations."),
    _view("take away", "screen", "copy", "Y", "copy", "copy", "Copy the selection, the step pointed at, or the run in a line."),
    _view("help", "screen", "help", "question_mark,f1", "help", "help", "Show all keys.", 9),
    _view("help", "screen", "palette", "ctrl+p", "palette", "palette", "Find a command by name."),
)

BY_ID = {key.id: key for key in KEYS}


def bindings(keys: Iterable[Key] = KEYS) -> list[BindingType]:
    """The table as Textual bindings; every press goes through `perform`, the one gate that can refuse it."""
    return [
        Binding(
            key.keys,
            f"perform('{key.id}')",
            key.label,
            id=key.id,
            tooltip=key.help,
            key_display=key.shown,
            show=False,
        )
        for key in keys
    ]


def typing_bindings(keys: Iterable[Key], of_panes: Collection[str] = ()) -> list[BindingType]:
    """The table as bindings of a screen that has fields and opens dialogs with fields.

    Textual looks at bindings last, by a long way: what is typed right behind a key would be looked at before the key has opened
    the field that it is for. So every press has priority (`perform_at_once`) as long as nothing is typed into: the screen
    refuses that then (`check_action`), and a field gets its keys first. Keys `of_panes`, which may use them, wait for those.
    """
    made = bindings(keys)
    at_once = [
        replace(binding, action=f"perform_at_once('{binding.id}')", priority=True)
        for binding in made
        if isinstance(binding, Binding) and not {*of_panes} & {*binding.key.split(",")}
    ]
    return [*made, *at_once]


def footer(width: int, keys: Iterable[Key] = KEYS) -> list[Key]:
    """The footer's keys that fit into `width` cells, in order of rank."""
    fitting: list[Key] = []
    for key in sorted((key for key in keys if key.rank and key.keys), key=lambda key: key.rank):
        width -= len(key.shown) + 1 + len(key.label) + len(KEY_GAP)
        if width < 0:
            break
        fitting.append(key)
    return fitting
