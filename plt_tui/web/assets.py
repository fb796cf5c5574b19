"""What a browser loads to show a tab: a page of ours, and in it the terminal of textual-serve, an extra that may be missing.

Of textual-serve only files are used; its own page, which asks Google for a font and has scripts in its text, is not among them.
Read once: no path of a client ever reaches a file system. Invariant: what is served holds nothing of any run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from plt_tui.errors import UsageError

INSTALL = "install it: pip install 'plt-tui[web]'"
_PACKAGE = "textual_serve"
_OURS: Mapping[str, str] = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
_THEIRS: Mapping[str, str] = {
    "/terminal/textual.js": "js/textual.js",
    "/terminal/xterm.css": "css/xterm.css",
    "/terminal/mono.ttf": "fonts/RobotoMono-VariableFont_wght.ttf",
    "/terminal/mono-italic.ttf": "fonts/RobotoMono-Italic-VariableFont_wght.ttf",
}
_MEDIA: Mapping[str, str] = {"html": "text/html", "css": "text/css", "js": "text/javascript", "ttf": "font/ttf"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its media type and its bytes."""

    media: str
    body: bytes


def load(package: str = _PACKAGE) -> dict[str, Asset]:
    """The files by the paths under which they are served. Raises: UsageError when `package` is not there, or not as it was."""
    page, terminal = files("plt_tui.web").joinpath("page"), _static(package)
    ours = {path: Asset(_media(name), page.joinpath(name).read_bytes()) for path, name in _OURS.items()}
    return ours | {path: Asset(_media(name), _read(terminal / name)) for path, name in _THEIRS.items()}


def _static(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the UI in a browser needs the package textual-serve, which is not installed; {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "static"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} of textual-serve cannot be read ({error.strerror}); for the version that fits, {INSTALL}"
        ) from None


def _media(name: str) -> str:
    return _MEDIA[name.rpartition(".")[2]]
