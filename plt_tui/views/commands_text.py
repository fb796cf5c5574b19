"""What a typed line asks for: the verbs of `plt-tui ctl` in the same words, a few of the view's own, and what one would do.

Pure: text and the state of a run in, values and words out; sends nothing. Invariant: what `parse` returns as a command of the
run is what `plt-tui ctl` would send for the same words.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from plt_tui.config.knobs import KNOBS, check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import PROSE, VERBS, named_args, new_command, rewind_of
from plt_tui.views.preview import batch_words, change_words, left_words, preview, set_edit, undo_edit
from plt_tui.views.rewind import places, plan_return

TEXT_KNOBS = ("prompt",)
"""Knobs whose value is text, which needs no quotes at the end of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVerb:
    """A verb that the view carries out itself."""

    syntax: str
    help: str
    key: str = ""
    """Id of the key that does the same."""


OWN_VERBS: Mapping[str, OwnVerb] = {
    "goto": OwnVerb(syntax="goto STEP", help="point at a step: its mark, its log lines and its sample"),
    "metrics": OwnVerb(syntax="metrics", help="one chart, or a page of small ones", key="metrics"),
    "export": OwnVerb(syntax="export csv PATH", help="write all steps and evaluations into a file"),
    "theme": OwnVerb(syntax="theme NAME", help="other colours until you leave; for good: theme under [ui] of the settings"),
    "help": OwnVerb(syntax="help", help="show all keys", key="help"),
    "detach": OwnVerb(syntax="detach", help="close this view; the run goes on", key="detach"),
    "q": OwnVerb(syntax="q", help="leave: detach, save and stop, or stop now", key="leave"),
}
EXPORTS = ("csv",)
"""Forms that `export` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a line asks for. `args`: of a verb of the run by name; of one of the view `step`, `name`, or `path`."""

    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """True when the view carries it out, and nothing is sent."""
        return self.verb in OWN_VERBS


def parse(text: str) -> Asked:
    """What `text`, which is not blank, asks for. Raises: UsageError that says what would have been right."""
    verb, *values = _words(text)
    if verb.isascii() and verb.isdecimal() and not values:  # as in editors: the number of a place to go to
        verb, values = "goto", [verb]
    if verb in OWN_VERBS:
        return Asked(verb=verb, args=_own_args(verb, values))
    verb, values = spelled_out(verb, values)
    if verb not in VERBS:
        raise UsageError(_unknown(verb))
    now = verb == "stop" and "--now" in values
    args = named_args(verb, [value for value in values if not (now and value == "--now")], now=now)
    new_command(verb, args)
    if verb == "set":
        check_edit(args["name"], args["value"], args.get("mode", "set"))
    return Asked(verb=verb, args=args)


def spelled_out(verb: str, values: Sequence[str]) -> tuple[str, list[str]]:
    """A verb and the words after it, where a knob's name alone is short for `set`: `lr 3e-4`."""
    return ("set", [verb, *values]) if verb in KNOBS else (verb, list(values))


def told_before(asked: Asked, config: RunConfig | None, state: RunState) -> str:
    """What would come of it now, in a line. Raises: UsageError when the run would refuse it."""
    if asked.is_own:
        if asked.args.get("step", 0) > state.step:
            raise UsageError(f"goto: the run is at step {state.step}")
        return OWN_VERBS[asked.verb].help
    match asked.verb:
        case "set" if config is not None:
            seen = preview(config, state, set_edit(config, state, **asked.args))
        case "undo" if config is not None:
            seen = preview(config, state, undo_edit(state, asked.args.get("edit")))
        case "rewind" if config is not None:
            return plan_return(state, places(state, config.checkpoint.keep), *rewind_of(asked.args)).words
        case "stop" if asked.args.get("now"):
            return "end the run without saving"
        case _:
            return VERBS[asked.verb].help
    return " · ".join(filter(None, [change_words(seen), batch_words(seen), left_words(seen)]))


def _words(text: str) -> list[str]:
    """The words of a line. Texts, which come last, need no quotes, so that an apostrophe is one."""
    verb, _, rest = (part.strip() for part in text.strip().partition(" "))
    first, _, tail = (part.strip() for part in rest.partition(" "))
    if verb in PROSE:
        return [verb, *_text(rest)]
    if verb in TEXT_KNOBS:
        return [verb, *_text(rest)]
    if (verb == "set" and first in TEXT_KNOBS) or verb == "export":
        return [verb, *filter(None, [first]), *_text(tail)]
    try:
        return shlex.split(text)
    except ValueError:
        raise UsageError("a quote is not closed") from None


def _text(rest: str) -> list[str]:
    """The one text that is left: without its quotes, where it was quoted as for a shell."""
    if rest[:1] in ("'", '"'):
        try:
            words = shlex.split(rest)
        except ValueError:
            words = []
        if len(words) == 1:
            return words
    return [rest] if rest else []


def _own_args(verb: str, values: Sequence[str]) -> dict[str, Any]:
    syntax = OWN_VERBS[verb].syntax
    wanted = len(syntax.split()) - 1
    if len(values) < wanted:
        raise UsageError(f"{verb}: {syntax.split()[len(values) + 1]} is missing; such as: {syntax}")
    if len(values) > wanted:
        raise UsageError(f"{verb} takes {'nothing' if not wanted else syntax.removeprefix(verb).strip()}")
    match verb:
        case "goto":
            if not (values[0].isascii() and values[0].isdecimal() and len(values[0]) <= 16):
                raise UsageError(f"goto: a step is a whole number from 0 on, not {values[0]!r}")
            return {"step": int(values[0])}
        case "theme":
            return {"name": values[0]}
        case "export":
            if values[0] not in EXPORTS:
                raise UsageError(f"export: unknown form {values[0]!r}; known: {', '.join(EXPORTS)}")
            return {"path": values[1]}
        case _:
            return {}


def _unknown(verb: str) -> str:
    close = get_close_matches(verb.lower(), [*VERBS, *OWN_VERBS, *KNOBS], n=1)
    return f"unknown command {verb!r}" + (f"; did you mean {close[0]}?" if close else "; tab lists what there is")
