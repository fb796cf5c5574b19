"""Promises of `views.draft`: every field is found, what is offered is accepted, and the command says what the draft says."""

from __future__ import annotations

import shlex

import pytest

from plt_tui.config.fields import describe
from plt_tui.config.load import resolve
from plt_tui.config.sources import ENVIRONMENT, options_layer
from plt_tui.views.draft import (
    FIRST_PAGE,
    SECRETS,
    SUGGESTIONS,
    Checked,
    Mistake,
    choices_of,
    command,
    command_line,
    matching,
    pages,
    section_doc,
    summary_lines,
    value_text,
)

SUMMARY = dict.fromkeys(["model", "size", "data", "held out", "ranks", "step", "target"], "")


def test_every_field_has_a_page() -> None:
    """Its section's, in the schema's order; some stand on the first page too, and every section says what it is about."""
    found = pages()
    first = found.pop(FIRST_PAGE)
    assert [key for keys in found.values() for key in keys] == list(describe())
    assert set(first) < set(describe())
    assert [section for section in found if not section_doc(section)] == []


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, offered in SUGGESTIONS.items() for text in offered])
def test_what_is_offered_is_accepted(key: str, text: str) -> None:
    """By the schema."""
    resolve([options_layer((), [f"{key}={text}"])])


@pytest.mark.parametrize("key", [key for key, doc in describe().items() if choices_of(doc)])
def test_every_choice_is_accepted(key: str) -> None:
    """As the text that it is chosen as."""
    for text in choices_of(describe()[key]):
        resolve([options_layer((), [f"{key}={text}"])])


@pytest.mark.parametrize("key", describe())
def test_a_value_is_shown_as_one_would_type_it(key: str) -> None:
    """The default, typed, is the default; an empty text is told apart by the form, which never sends it."""
    default = describe()[key].default
    text = value_text(default)
    if text:
        section, _, name = key.partition(".")
        assert resolve([options_layer((), [f"{key}={text}"])]).config.model_dump()[section][name] == default


@pytest.mark.parametrize(
    ("query", "first", "others"),
    [
        ("warmup", "optim.warmup", {"optim.schedule"}),
        ("lion", "optim.name", set()),
        ("LEARNING rate peak", "optim.lr", set()),
        ("optim. wsd", "optim.decay_fraction", {"optim.schedule"}),
        ("no such thing", None, set()),
    ],
)
def test_a_search_finds_names_meanings_and_choices(query: str, first: str | None, others: set[str]) -> None:
    """All words must occur; a field with all of them in its name comes first."""
    found = matching(query)
    assert (found[0] if found else None) == first or set(found) == {first, *others}
    assert others <= set(found)


def test_the_command_holds_what_was_changed() -> None:
    """In the schema's order, quoted for a shell; nothing changed is the plain command."""
    assert command_line({}) == "plt-tui run"
    line = command_line({"sample.prompt": "It's ", "data.train": "a b.txt"})
    assert shlex.split(line) == ["plt-tui", "run", "--set", "data.train=a b.txt", "--set", "sample.prompt=It's "]


def test_a_secret_is_named_but_not_told() -> None:
    """The command says which variable holds it."""
    assert set(SECRETS) <= set(describe())
    assert {ENVIRONMENT[variable] for variable in SECRETS.values()} == set(SECRETS)
    values = {"alerts.webhook": "https://example.org/secret", "train.steps": "5"}
    assert command_line(values) == "PLT_WEBHOOK=… plt-tui run --set train.steps=5"
    assert not any("secret" in word for word in command(values))


@pytest.mark.parametrize(
    ("room", "topics"),
    [
        (0, []),
        (1, ["model"]),
        (4, ["model", "size", "step", "target"]),
        (5, ["model", "size", "data", "step", "target"]),
        (99, list(SUMMARY)),
    ],
)
def test_a_summary_keeps_what_tells_most(room: int, topics: list[str]) -> None:
    """In its own order."""
    assert [topic for topic, _ in summary_lines(SUMMARY, room)] == topics


def test_mistakes_are_found_by_their_field() -> None:
    """All of one field, in their order."""
    checked = Checked(mistakes=(Mistake("optim.lr", "a"), Mistake("", "b"), Mistake("optim.lr", "c")))
    assert checked.mistakes_of("optim.lr") == ["a", "c"]
    assert checked.mistakes_of("train.steps") == []
