"""The keys of the list of runs and of the comparison, one table each, in the form of `keys`, which holds the run screen's.

Invariant: what a key does on several screens it has one id for, so a keymap moves it on all of them.
"""

from __future__ import annotations

from dataclasses import replace

from plt_tui.views.tui.keys import BY_ID, Key, screen_key

RUNS_KEYS: tuple[Key, ...] = (
    screen_key("runs", "runs_open", "enter", "open", "open", "Open the run: live to steer it, else to see how it ended.", 1),
    screen_key("runs", "runs_new", "n", "new_run", "new", "Set up a new run in a form.", 2),
    screen_key("runs", "runs_mark", "space", "mark", "mark", "Mark the run for a comparison, or take the mark away.", 3),
    screen_key("runs", "runs_compare", "c", "compare", "compare", "Compare the marked runs, or this one with the newest.", 4),
    screen_key("runs", "runs_clear", "escape", "clear", "clear", "Take the filter away, then all marks."),
    screen_key("runs", "runs_up", "up", "move(-1)", "up", "Go to the run above."),
    screen_key("runs", "runs_down", "down", "move(1)", "down", "Go to the run below."),
    screen_key("runs", "runs_page_up", "pageup", "page(-1)", "page up", "Go up by a screenful."),
    screen_key("runs", "runs_page_down", "pagedown", "page(1)", "page down", "Go down by a screenful."),
    screen_key("runs", "runs_first", "home", "first", "first", "Go to the first run."),
    screen_key("runs", "runs_last", "end", "last", "last", "Go to the last run."),
    screen_key("find", "runs_filter", "slash", "filter", "filter", "Show only runs whose name or state has these words.", 5),
    screen_key("find", "runs_order", "o", "order", "order", "Order the runs by the next column.", 8),
    screen_key("find", "runs_reverse", "O", "reverse", "reverse", "Turn the order round.", 9),
    replace(BY_ID["leave"], help="Leave; runs that train go on.", rank=7),
    BY_ID["suspend"],
    replace(BY_ID["help"], rank=6),
    BY_ID["palette"],
)

_OF_THE_CHART = {
    **dict.fromkeys(("zoom_in", "zoom_out", "pan_left", "pan_right", "view_start", "view_tail"), 0),
    "axis": 6,
    "log_axis": 7,
    "smoother": 8,
    "rougher": 0,
}
"""Keys of the chart with their places in the footer."""

COMPARE_KEYS: tuple[Key, ...] = (
    replace(BY_ID["next_pane"], on="screen", action="next_pane", rank=2),
    replace(BY_ID["maximise"], on="screen", rank=3),
    screen_key("panes", "compare_evals", "e", "toggle_evals", "evals", "Show or hide the evaluations.", 4),
    *(replace(BY_ID[id_], rank=rank) for id_, rank in _OF_THE_CHART.items()),
    replace(BY_ID["page_back"], label="metric before", help="Show the metric before this one."),
    replace(BY_ID["page_on"], label="metric", help="Show the next metric.", rank=9),
    replace(BY_ID["leave"], keys="q,escape,ctrl+c,ctrl+q", help="Go back, or leave.", rank=1),
    BY_ID["suspend"],
    replace(BY_ID["help"], rank=5),
    BY_ID["palette"],
)
