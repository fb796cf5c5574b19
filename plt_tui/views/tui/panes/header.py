"""The two lines at the top: what the run is doing, how far it is, and how long it will take.

Decides nothing. Invariant: the state is always told by a word and a glyph, colour only repeats it.
"""

from __future__ import annotations

from textual.content import Content

from plt_tui.control.state import RunState
from plt_tui.views.formats import format_count, format_duration
from plt_tui.views.standstill import countdown_words, standstill
from plt_tui.views.tui.meters import bar, spread
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.panes.machine import lagging
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import PHASES, STYLES, Tone, Word, one_line, ranks_words

MIN_BAR = 12
DIMMED = "$foreground 40%"
"""Viewers that can change nothing."""


class Header(Block):
    """State, progress and the facts of a run."""

    DEFAULT_CSS = """
    Header { height: 2; padding: 0 1; background: $panel; }
    """

    def show(self, session: RunSession, now: float) -> None:
        """Draw the run at Unix time `now`."""
        width, model = self.content_size.width, session.model
        if model.state.is_over:  # the clock of a run whose hub died without a word has stopped then
            now = min(now, model.last_time)
        self.put([_first_line(session, width), _second_line(session.model.state, now, width)])


def state_word(session: RunSession) -> Word:
    """The run's state in a word; a broken connection comes before what the run last said."""
    state = session.model.state
    if state.is_over:
        return PHASES[state.phase]
    if session.link == "connecting":
        return Word("◌", "connecting", "accent")
    if session.link == "closed":
        return Word("?", "not connected", "bad")
    return PHASES[state.phase]


def _first_line(session: RunSession, width: int) -> Content:
    state, word = session.model.state, state_word(session)
    reason = "" if session.trouble and not state.is_over else one_line(state.reason)
    name = state.run.name if state.run is not None else session.name
    name = f"{session.elsewhere.host}:{name}" if session.elsewhere is not None else name
    left = Content.assemble(
        (f"{word.glyph} {word.text}", f"bold {STYLES[word.tone]}"),
        (f"  {one_line(name)}", "bold"),
        (f"  {reason}" if reason else "", STYLES["muted"]),
    )
    return spread(left, _progress(state), width)


def _progress(state: RunState) -> Content:
    if state.progress is not None and state.step == 0 and state.progress.total > 0:
        done = state.progress.done / state.progress.total
        return Content.assemble((f"{one_line(state.progress.task)} ", STYLES["muted"]), (f"{done:.0%}", "bold"))
    if state.run is None:
        return Content("")
    share = state.step / max(1, state.run.target_step)
    parts = [("step ", STYLES["muted"]), (f"{state.step:,}", "bold"), (f" / {state.run.target_step:,}", STYLES["muted"])]
    parts.append((f"  {share:.1%}", "bold"))
    if not state.is_over:
        eta = format_duration(state.eta_s) if state.eta_s is not None and state.phase == "running" else "–"
        parts += [("  ETA ", STYLES["muted"]), (eta, "bold")]
    return Content.assemble(*parts)


def _second_line(state: RunState, now: float, width: int) -> Content:
    facts = "  ·  ".join(_fitting(_facts(state, now), width - MIN_BAR - 2))
    bar_width = max(0, width - len(facts) - 2)
    return spread(bar(_share(state), bar_width, _bar_tone(state)), _dimmed(facts, _readonly_words(state)), width)


def _dimmed(facts: str, words: str) -> Content:
    """The facts, with `words` in them fainter than the others."""
    content, start = Content.styled(facts, STYLES["muted"]), facts.find(words)
    return content.stylize(DIMMED, start, start + len(words)) if words and start >= 0 else content


def _bar_tone(state: RunState) -> Tone:
    return PHASES[state.phase].tone if state.phase != "running" else "accent"


def _share(state: RunState) -> float:
    if state.progress is not None and state.step == 0 and state.progress.total > 0:
        return state.progress.done / state.progress.total
    return state.step / max(1, state.run.target_step) if state.run is not None else 0.0


def _facts(state: RunState, now: float) -> list[str]:
    """Most important first: the last ones go where room is short."""
    run = state.run
    if run is None:
        return []
    until = state.end.time if state.end is not None and state.end.time else now
    facts = [f"elapsed {format_duration(max(0.0, until - state.session_at))}"]
    if state.last_step is not None:
        facts.append(f"{format_count(state.last_step.tokens)} tokens")
    facts += [f"{one_line(run.device)}, {ranks_words(run.world_size)}", f"{format_count(run.params)} parameters"]
    if state.restarts:
        facts.insert(0, f"restarts: {state.restarts}")
    laggards = lagging(state.ranks.values(), now) if not state.is_over else []
    still = standstill(state, now)
    ends = [countdown_words(still)] if still is not None else []
    return [*ends, *(f"rank {rank} {word}" for rank, word in laggards), *_viewers(state), *facts]


def _viewers(state: RunState) -> list[str]:
    """How many look on, where that is not this view alone."""
    count = len(state.viewers)
    return [f"{count} viewers{_readonly_words(state)}"] if count > 1 and not state.is_over else []


def _readonly_words(state: RunState) -> str:
    count = sum(bool(viewer.get("readonly")) for viewer in state.viewers)
    return f" ({count} read-only)" if count else ""


def _fitting(facts: list[str], width: int) -> list[str]:
    fitting: list[str] = []
    for fact in facts:
        width -= len(fact) + 5
        if width < 0:
            break
        fitting.append(fact)
    return fitting
