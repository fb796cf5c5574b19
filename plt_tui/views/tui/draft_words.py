"""What the form for a new run says beside its fields: about a field, about the whole draft, and the command.

Pure functions on Content. Invariant: a result has never more lines than there is room for, and says how much it leaves out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from textual.content import Content
from textual.geometry import Size

from plt_tui.config.fields import FieldDoc
from plt_tui.protocol.text import safe_line
from plt_tui.views.draft import FIRST_PAGE, SUGGESTIONS, Checked, section_doc, summary_lines, value_text
from plt_tui.views.rewind import counted
from plt_tui.views.tui.words import STYLES, Word

_TITLE_CELLS = 11
_TOPIC_CELLS = 9


def section_prompt(title: str, keys: Collection[str], draft: Mapping[str, str], checked: Checked) -> Content:
    """A section in the list, with how many of its fields are changed and how many are wrong."""
    num_set = len(draft.keys() & set(keys))
    num_wrong = len({mistake.key for mistake in checked.mistakes} & set(keys))
    return Content.assemble(
        title.ljust(_TITLE_CELLS),
        (f" ●{num_set}" if num_set else "", STYLES["accent"]),
        (f" ✖{num_wrong}" if num_wrong else "", STYLES["bad"]),
    )


def about_page(title: str) -> list[Content]:
    """What a page holds."""
    if title == FIRST_PAGE:
        words = "What most runs set. All other fields are in the sections, or found by words of their name or meaning."
    elif title == "search":
        words = "Every word must occur in the field's name, meaning or choices. Enter goes to the first field, esc back."
    else:
        words = section_doc(title)
    return [Content.styled(title, "bold"), Content.styled(words, STYLES["muted"])]


def about_field(doc: FieldDoc, text: str, checked: Checked) -> list[Content]:
    """A field's meaning, what it accepts, and where the value that counts comes from."""
    if text:
        source = "changed here; an empty field is the default again"
    else:
        value = checked.values.get(doc.name, value_text(doc.default))
        source = f"{value or 'empty'} · {checked.origins.get(doc.name, 'default')}"
    if SUGGESTIONS.get(doc.name):
        source += " · → completes what is typed"
    return [
        Content.assemble((doc.name, "bold"), ("  " + source, STYLES["accent"])),
        Content.styled(f"{doc.doc} ({doc.type})", STYLES["muted"]),
    ]


def verdict(
    checked: Checked, *, shown: Collection[str], num_set: int, said: Word | None, doing: str, start_key: str, size: Size
) -> list[Content]:
    """The state of the draft, then what is wrong outside of the fields in sight, or what it would train.

    said: the outcome of the last save or start; doing: "starting", "checking" or empty.
    """
    word = said if said is not None and not doing else _state(checked, num_set, doing, start_key)
    head = Content.assemble((f"{word.glyph} ", f"bold {STYLES[word.tone]}"), (word.text, STYLES[word.tone])).wrap(
        size.width or 1
    )
    room = max(0, size.height - len(head))
    if checked.mistakes:
        return [*head, *_elsewhere(checked, shown, Size(size.width, room))][: size.height]
    return [*head, *(_topic(topic, text, size.width) for topic, text in summary_lines(checked.summary, room))]


def _state(checked: Checked, num_set: int, doing: str, start_key: str) -> Word:
    changed = f"{num_set} changed" if num_set else "nothing changed"
    if doing:
        return Word("◌", f"{doing} …", "accent")
    if checked.mistakes:
        return Word("✖", f"{counted(len(checked.mistakes), 'mistake', 'mistakes')} · {changed}", "bad")
    return Word("✔", f"no mistakes found · {changed} · {start_key} trains this", "good")


def _elsewhere(checked: Checked, shown: Collection[str], size: Size) -> list[Content]:
    """The mistakes that no field in sight tells."""
    hidden = [mistake for mistake in checked.mistakes if mistake.key not in shown]
    lines = [f"✖ {key}: {text}" if key else f"✖ {text}" for key, text in hidden]
    wrapped = [line for text in lines for line in Content.styled(text, STYLES["bad"]).wrap(size.width or 1)]
    if len(wrapped) <= size.height:
        return wrapped
    kept = wrapped[: max(0, size.height - 1)]
    return [*kept, Content.styled(f"… {len(wrapped) - len(kept)} more lines", STYLES["muted"])]


def _topic(topic: str, text: str, width: int) -> Content:
    line = Content.assemble((topic.ljust(_TOPIC_CELLS + 1), STYLES["muted"]), text)
    return line.truncate(width, ellipsis=True)


def command_words(command: str, copy_key: str, size: Size) -> Sequence[Content]:
    """The command in the lines that there are; what does not fit is left out, and said so."""
    wrapped = Content.assemble(("$ ", STYLES["muted"]), (safe_line(command), "bold")).wrap(size.width or 1)
    if len(wrapped) <= size.height:
        return wrapped
    kept = wrapped[: max(1, size.height)]
    note = Content.styled(f" … {copy_key} copies all of it", STYLES["muted"])
    return [*kept[:-1], kept[-1].truncate(max(0, size.width - note.cell_length)) + note]
