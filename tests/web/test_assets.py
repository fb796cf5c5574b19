"""The files of the page: all there, all from here, nothing that runs from the page's own text."""

from __future__ import annotations

import re

import pytest

from plt_tui.errors import UsageError
from plt_tui.web import assets

OUTSIDE = re.compile(rb"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//|url\(\s*[\"']?(?:https?:)?//|@import")
INLINE = re.compile(rb"<style|\sstyle\s*=|\son[a-z]+\s*=|<script(?![^>]*\ssrc=)|javascript:")


def test_nothing_comes_from_outside() -> None:
    """Neither page nor styles name another server: textual-serve's own page asks Google for its font."""
    for path, asset in assets.load().items():
        if asset.media in ("text/html", "text/css"):
            assert OUTSIDE.search(asset.body) is None, path
            assert INLINE.search(asset.body) is None, path


def test_everything_that_the_page_names_is_served() -> None:
    """Each address in the page, its style and its script leads to a file."""
    served = assets.load()
    named = re.findall(rb"(?:href|src)=\"(?!data:)([^\"]+)\"", served["/"].body)
    named += re.findall(rb"url\(\"([^\"]+)\"\)", served["/page.css"].body)
    named += re.findall(rb"script\.src = \"([^\"]+)\"", served["/page.js"].body)
    assert {f"/{name.decode()}" for name in named} | {"/"} == served.keys()


def test_without_the_extra_there_is_a_sentence() -> None:
    """What is missing, and how to get it."""
    with pytest.raises(UsageError, match=r"needs the package textual-serve.*pip install 'plt-tui\[web\]'"):
        assets.load("textual_serve_that_nobody_has")


def test_another_layout_of_the_extra_is_a_sentence() -> None:
    """A version whose files lie elsewhere is named by the file that is not there."""
    with pytest.raises(UsageError, match=r"static/js/textual\.js of textual-serve cannot be read.*plt-tui\[web\]"):
        assets.load("plt_tui")
