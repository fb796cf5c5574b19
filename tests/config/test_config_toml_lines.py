"""Promises of `config.toml_lines`: each key's line, whatever surrounds it."""

from __future__ import annotations

import tomli
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.toml_lines import key_lines


def test_headers_and_keys_have_the_line_they_stand_on():
    """Plain sections, comments and blank lines: the line is the one an editor shows."""
    text = "# head\n\n[train]  # [not.a.header]\nsteps = 5 # lr = 1\n\n[optim]\nlr = 1e-3\n"
    assert key_lines(text) == {("train",): 3, ("train", "steps"): 4, ("optim",): 6, ("optim", "lr"): 7}


def test_dotted_and_quoted_keys_are_the_same_keys():
    """`a.b`, `"a".b`, `a . 'b'` and `[ a . "b" ]` name the same tables; escapes are resolved."""
    text = 'train.steps = 1\n"train".epochs = 2\ntrain . \'tokens\' = 3\n[ eval . "a.b" ]\n"caf\\u00e9" = 1\n'
    assert key_lines(text) == {
        ("train",): 1,
        ("train", "steps"): 1,
        ("train", "epochs"): 2,
        ("train", "tokens"): 3,
        ("eval",): 4,
        ("eval", "a.b"): 4,
        ("eval", "a.b", "café"): 5,
    }


def test_inline_tables_give_their_keys():
    """Keys of (nested) inline tables are found; commas and braces in their strings are not marks."""
    text = 'optim = { lr = 1.5, name = "},{x=", betas = [0.9, 0.95], deep = { a = {} } }\neval = {every = 1}\n'
    assert key_lines(text) == {
        ("optim",): 1,
        ("optim", "lr"): 1,
        ("optim", "name"): 1,
        ("optim", "betas"): 1,
        ("optim", "deep"): 1,
        ("optim", "deep", "a"): 1,
        ("eval",): 2,
        ("eval", "every"): 2,
    }


def test_strings_that_look_like_toml_fool_nobody():
    """Multi-line strings of both kinds can hold headers, keys and quotes; the lines after them still count right."""
    text = (
        '[sample]\nprompt = """\n[train]\nsteps = 1\n\\""" ""still""""" # c\n'
        "other = '''\n[eval]\nevery = 2 ''''\nlast = '''x'''\nempty = \"\"\"\"\"\"\ntokens = 3\n"
    )
    tomli.loads(text)
    assert key_lines(text) == {
        ("sample",): 1,
        ("sample", "prompt"): 2,
        ("sample", "other"): 6,
        ("sample", "last"): 9,
        ("sample", "empty"): 10,
        ("sample", "tokens"): 11,
    }


def test_quotes_before_closing_quotes_belong_to_the_string():
    """A multi-line string may end in up to five quotes; what follows is not part of it."""
    text = "ui = {a = \"\"\"x\"\"\"\", b = \", no = 1\"}\neval = {c = '''x''''', d = ', no = 1'}\n"
    tomli.loads(text)
    assert set(key_lines(text)) == {("ui",), ("ui", "a"), ("ui", "b"), ("eval",), ("eval", "c"), ("eval", "d")}


def test_arrays_over_many_lines_are_one_value():
    """Newlines, comments and brackets in strings inside an array do not end it."""
    text = '[optim]\nbetas = [ # [x]\n  0.9, "]", # lr = 3\n  [1, [2]],\n]\nlr = 1\n'
    assert key_lines(text) == {("optim",): 1, ("optim", "betas"): 2, ("optim", "lr"): 6}


def test_the_first_mention_of_a_table_stands():
    """Tables made by a longer header or by several array elements keep their first line."""
    text = "[a.b]\nx = 1\n[a]\ny = 2\n[[c]]\nz = 1\n[[c]]\nz = 2\n"
    lines = key_lines(text)
    assert (lines["a",], lines["a", "y"], lines["c",], lines["c", "z"]) == (1, 4, 5, 6)


def test_windows_line_ends_count_once():
    """CRLF files have the same line numbers."""
    text = '[a]\r\nb = """\r\nx\r\n"""\r\nc = 1979-05-27 07:32:00 # date\r\nd = 1.5e+3'
    assert key_lines(text) == {("a",): 1, ("a", "b"): 2, ("a", "c"): 5, ("a", "d"): 6}


_SCALARS = (
    st.text() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans() | st.datetimes() | st.dates()
)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=6)
_TABLES = st.recursive(
    st.dictionaries(st.text(), _VALUES, max_size=4),
    lambda inner: st.dictionaries(st.text(), _VALUES | inner, max_size=4),
    max_leaves=6,
)


def _paths(table, prefix=()):
    for key, value in table.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))


@given(_TABLES, st.booleans())
def test_every_key_of_any_document_is_found_and_nothing_else(table, multiline):
    """For any tables, keys and values: the paths found are exactly those that tomli reads."""
    text = tomli_w.dumps(table, multiline_strings=multiline)
    assert set(key_lines(text)) == set(_paths(tomli.loads(text)))


@given(st.lists(st.text(), unique=True, min_size=1, max_size=6), st.text())
def test_lines_count_every_newline_before_a_key(keys, text):
    """Each key stands on the line where the text up to it ends, also after strings that hold newlines."""
    parts = [tomli_w.dumps({key: text}, multiline_strings=True) for key in keys]
    expected = {(key,): 1 + "".join(parts[:index]).count("\n") for index, key in enumerate(keys)}
    assert key_lines("".join(parts)) == expected
