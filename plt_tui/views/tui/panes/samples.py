"""Texts that the model wrote: the newest ones in a list, or one at a time, walked through by step and compared by word.

Interprets nothing in a text. Invariant: shows what the model's shelf of samples holds, no more.
"""

from __future__ import annotations

from textual.content import Content
from textual.message import Message

from plt_tui.protocol.events import Sample
from plt_tui.views.sample_shelf import SampleShelf
from plt_tui.views.tui.panes.bars import Refused
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.person import shown_key
from plt_tui.views.tui.words import STYLES, Tone, clock_words
from plt_tui.views.word_diff import Kind, Piece, word_diff

LISTED = 50
"""Samples in the list; older ones are reached one at a time."""

MARKS: dict[Kind, tuple[str, str, Tone]] = {
    "same": ("", "", "normal"),
    "gone": ("[-", "-]", "bad"),
    "new": ("{+", "+}", "good"),
    "rest": ("", "", "muted"),
}
"""What stands around the words of a difference, as `git diff --word-diff` writes it, and their tone: never colour alone."""


class Samples(ScrollBlock):
    """The samples of a run."""

    class Picked(Message):
        """Somebody walks through the samples: the one of `step` is shown now; None: all of them are."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self) -> None:
        super().__init__("samples", id="samples")
        self._shelf = SampleShelf()
        self._shown: int | None = None
        """Number of the one sample that is shown; None: the list."""
        self._pointed: int | None = None
        self._up_to: int | None = None
        """The step for which a sample was looked for, since nobody scrubbed: the model may have written nothing so early."""
        self._is_diff = False
        self._can_sample = False

    def show(self, shelf: SampleShelf, pointed: int | None = None, *, can_sample: bool = False) -> None:
        """Draw what is on `shelf`, and turn to the step pointed at when it is another than before.

        can_sample: this view can ask for a sample now.
        """
        self._shelf, self._can_sample = shelf, can_sample
        if pointed != self._pointed:
            self._pointed = pointed
            self.show_at(pointed)
        self._draw()

    def show_at(self, step: int | None) -> None:
        """Show what the model wrote at `step` or last before it; None: the list."""
        self._up_to = step
        shown = self._shown
        if step is None:
            self._turn_to(None)
        elif (
            shown is None or not self._is_kept(shown) or self._shelf[shown].step != step
        ):  # else it is one of that step already
            self._turn_to(self._shelf.at(step))

    def action_scrub(self, direction: int) -> None:
        """To the sample before (-1) or after (1) the one shown; before the list comes the newest, behind that the list."""
        shelf = self._shelf
        is_at_end = self._shown == shelf.first if direction < 0 else self._shown is None and self._up_to is None
        if is_at_end or not shelf.samples:
            which = f"no {'older' if direction < 0 else 'newer'} sample" if shelf.samples else "no sample yet"
            self.post_message(Refused(which))
            return
        number = (shelf.stop if self._shown is None else self._shown) + direction
        self._up_to = None
        self._turn_to(max(shelf.first, number) if number < shelf.stop else None)
        self.post_message(self.Picked(None if self._shown is None else shelf[self._shown].step))

    def action_toggle_diff(self) -> None:
        """Show what is another word than in the sample before of the same prompt, or stop doing so."""
        self._is_diff = not self._is_diff
        if self._is_diff and self._shown is None and self._up_to is None:
            self.action_scrub(-1)
        self._draw()

    def _turn_to(self, number: int | None) -> None:
        if number != self._shown:
            self.scroll_home(animate=False, immediate=True)
        self._shown = number
        self._draw()

    def _is_kept(self, number: int) -> bool:
        return self._shelf.first <= number < self._shelf.stop

    # --- drawing -----------------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        shelf = self._shelf
        if self._shown is not None and not self._is_kept(self._shown):
            self._shown = shelf.first if shelf.samples else None
        self.border_subtitle = Content(self._place_words())
        if self._shown is not None:
            self.put(self._single(self._shown))
        elif self._up_to is not None:
            self.put([Content.styled(f"no sample up to step {self._up_to:,}", STYLES["muted"])])
        else:
            self.put([_entry(sample) for sample in reversed(shelf.samples[-LISTED:])] or [self._none()])

    def _none(self) -> Content:
        hint = f": {shown_key(self.app, 'sample')} writes one now" if self._can_sample else ""
        return Content.styled(f"no sample yet{hint}", STYLES["muted"])

    def _place_words(self) -> str:
        if self._shown is None:
            return ""
        place = f"{self._shown - self._shelf.first + 1} of {len(self._shelf.samples)}"
        return f"differences · {place}" if self._is_diff else place

    def _single(self, number: int) -> list[Content]:
        sample, older = self._shelf[number], self._shelf.before(number)
        notes = ["left by a rewind or a restart"] if self._shelf.is_left(number) else []
        if not self._is_diff:
            return [_entry(sample, notes)]
        if older is None:
            return [_entry(sample, [*notes, "nothing before it continues this prompt"])]
        before = self._shelf[older]
        pieces = word_diff(before.text, sample.text)
        is_same = all(piece.kind == "same" for piece in pieces)
        notes.append(f"{'the same as' if is_same else 'against'} step {before.step:,}")
        return [_entry(sample, notes, pieces)]


def _entry(sample: Sample, notes: list[str] = [], pieces: list[Piece] | None = None) -> Content:  # noqa: B006  (never changed)
    """One sample with its step, what is to be said about it, and its text, or the `pieces` of a difference instead."""
    body = [_marked(piece) for piece in pieces] if pieces is not None else [Content(sample.text.expandtabs(4))]
    return Content.assemble(
        (f"step {sample.step:,}", f"bold {STYLES['accent']}"),
        (f"  {' · '.join([clock_words(sample.time), *notes])}\n", STYLES["muted"]),
        (sample.prompt.expandtabs(4), STYLES["muted"]),
        *body,
        "\n",
    )


def _marked(piece: Piece) -> Content:
    """A piece of a difference between its marks; the blanks behind it stay outside."""
    before, after, tone = MARKS[piece.kind]
    words = piece.text.rstrip()
    marked = f"{before}{words}{after}" if words else ""
    return Content.assemble((marked.expandtabs(4), STYLES[tone]), piece.text[len(words) :].expandtabs(4))
