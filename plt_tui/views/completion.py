"""Help with a line while it is typed: what can come next, what it would do, what is wrong with it, and earlier lines.

Pure; what of the run it must know comes in with `Around`. Says nothing of how a line looks. Invariant: a line that `judge`
calls good is one that `commands_text.parse` takes.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from plt_tui.config.knobs import KNOBS
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import VERBS
from plt_tui.views.commands_text import EXPORTS, OWN_VERBS, Asked, parse, spelled_out

HISTORY_LINES = 500
"""Earlier lines that are kept, the newest."""
MAX_CHARS = 1200
"""Longest line: a prompt of 1000 characters and the verb before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a line is judged against, asked anew each time: the run goes on while one types."""

    value: Callable[[str], str]
    """A knob's value in force, as one would type it, if it can be typed; empty while unknown."""
    refusal: Callable[[str], str]
    """Why a verb cannot be sent now, or empty."""
    effect: Callable[[Asked], str]
    """What it would do. Raises: UsageError when the run would refuse it."""
    steps: Callable[[], Sequence[int]]
    """Steps that a rewind can go back to, the newest first."""
    edits: Callable[[], Sequence[str]]
    """Ids of the edits in force."""
    themes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of a line: nothing is typed, something must follow, it can be sent, or it cannot be; and a sentence about that."""

    kind: Literal["empty", "partial", "good", "wrong"]
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Words that could stand from `start` on, in the order in which they are offered."""

    start: int
    options: tuple[str, ...]


def judge(text: str, around: Around) -> Verdict:
    """Whether `text` can be sent."""
    if not text.strip():
        return Verdict(kind="empty")
    verb, _ = _first(text)
    refusal = around.refusal(verb) if verb in VERBS else ""
    if refusal:
        return Verdict(kind="wrong", words=f"{verb}: {refusal}")
    try:
        asked = parse(text)
        if asked.verb == "theme" and asked.args["name"] not in around.themes:
            raise UsageError(f"theme: there is no {asked.args['name']!r}; tab lists those there are")
        return Verdict(kind="good", words=around.effect(asked))
    except UsageError as error:
        return Verdict(kind="partial" if _can_go_on(text, around) else "wrong", words=str(error))


def completion(text: str, around: Around) -> Completion:
    """What could stand in the place of the last word of `text`: what begins like it, else what holds its letters in order."""
    start = len(text) - len(text.split(" ")[-1])
    typed = text[start:]
    options = [option for option in _options(text[:start].split(), around) if option != typed]
    found = [option for option in options if option.startswith(typed)]
    if not found and len(typed) > 1:
        found = [option for option in options if _holds(option, typed)]
    return Completion(start=start, options=tuple(found))


def extended(text: str, found: Completion) -> str:
    """`text` as far as all options agree; with a space behind it where there is only one."""
    if len(found.options) == 1:
        return f"{text[: found.start]}{found.options[0]} "
    typed = text[found.start :]
    common = _beginning(found.options)
    return text[: found.start] + (common if common.startswith(typed) else typed)


def hint(text: str, around: Around) -> str:
    """The syntax of what is being typed, with what is worth knowing about it: the present value and the range of a knob."""
    verb, values = _first(text)
    if verb in OWN_VERBS:
        return f"{OWN_VERBS[verb].syntax}  ·  {OWN_VERBS[verb].help}"
    if verb not in VERBS:
        return ""
    if verb != "set" or not values or values[0] not in KNOBS:
        return f"{_syntax(verb)}  ·  {VERBS[verb].help}"
    knob, now = KNOBS[values[0]], around.value(values[0])
    modes = f" [{'|'.join(knob.modes)}]" if len(knob.modes) > 1 else ""
    present = [f"now {now}"] if now else []
    return "  ·  ".join([f"set {values[0]} VALUE{modes}", *present, knob.help])


def recalled(lines: Sequence[str], typed: str, place: int, direction: int) -> int:
    """The place in `lines` of the next older (-1) or newer (1) line that begins like `typed`, from `place` on.

    len(lines) is the place of what is typed itself; where there is nothing older, the place stays.
    """
    at = place + direction
    while 0 <= at < len(lines):
        if lines[at].startswith(typed) and lines[at] != typed:
            return at
        at += direction
    return place if at < 0 else len(lines)


def remembered(lines: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    """`lines` and `more` as one history: each line once, at its latest place, and not more than HISTORY_LINES.

    A line that a terminal would act on is left out: the file that it came from is in nobody's hands.
    """
    good = [line for line in (*lines, *more) if line.strip() and line.isprintable() and len(line) <= MAX_CHARS]
    latest = dict.fromkeys(reversed(good))
    return tuple(reversed(list(latest)[:HISTORY_LINES]))


def _first(text: str) -> tuple[str, list[str]]:
    """The verb of a line and the words after it, quotes and all; a knob's name alone is short for `set`."""
    words = text.split()
    return spelled_out(words[0], words[1:]) if words else ("", [])


def _syntax(verb: str) -> str:
    if verb == "rewind":
        return "rewind STEP [skip N]"
    if verb == "stop":
        return "stop [--now]"
    args = [name.upper() if name in VERBS[verb].required else f"[{name.upper()}]" for name in VERBS[verb].args]
    return " ".join([verb, *args])


def _options(before: Sequence[str], around: Around) -> Sequence[str]:
    """What can follow the words `before`."""
    if not before:
        return (*VERBS, *OWN_VERBS, *KNOBS)
    verb, values = spelled_out(before[0], before[1:])
    match verb, values:
        case "set", []:
            return tuple(KNOBS)
        case "set", [name] if name in KNOBS:
            now = around.value(name)
            return (_typable(now),) if now and now.isprintable() else ()
        case "set", [name, _] if name in KNOBS and len(KNOBS[name].modes) > 1:
            return KNOBS[name].modes
        case "rewind", []:
            return tuple(map(str, around.steps()))
        case "rewind", [_]:
            return ("skip",)
        case "stop", []:
            return ("--now",)
        case "undo", []:
            return around.edits()
        case "theme", []:
            return around.themes
        case "export", []:
            return EXPORTS
    return ()


def _typable(value: str) -> str:
    """A value as it can be typed: a text that ends in a space needs its quotes."""
    return value if value == " ".join(value.split()) and value[:1] not in ("'", '"') else shlex.quote(value)


def _beginning(words: Sequence[str]) -> str:
    """What all `words` begin with."""
    first, last = min(words, default=""), max(words, default="")
    length = next((at for at, letter in enumerate(first) if letter != last[at : at + 1]), len(first))
    return first[:length]


def _holds(option: str, typed: str) -> bool:
    """True when the letters of `typed` stand in `option` in this order."""
    letters = iter(option)
    return all(letter in letters for letter in typed.lower())


def _can_go_on(text: str, around: Around) -> bool:
    """True when what is wrong with a line is that it is not finished."""
    verb, values = _first(text)
    last = text.split(" ")[-1]
    if last and any(option.startswith(last) for option in completion(text, around).options):
        return True
    needed = len(OWN_VERBS[verb].syntax.split()) - 1 if verb in OWN_VERBS else len(VERBS[verb].required) if verb in VERBS else 0
    return len(values) < needed
