"""The files of the built-in page, read once from the package: no path of a client ever reaches a file system.

Knows nothing of what the page does. Invariant: what is served is exactly the files that lie in `page/`, and they hold no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

from plt_tui.server.guard import CSP

INDEX = "index.html"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files, talks to its own server, and runs nothing that stands in its text."""
MEDIA: Mapping[str, str] = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file: its media type and its bytes, which are UTF-8 text."""

    media: str
    body: bytes

    def response(self) -> web.Response:
        """The answer that holds the file."""
        return web.Response(body=self.body, content_type=self.media, charset="utf-8", headers={CSP: PAGE_CSP})


def page_files() -> dict[str, StaticFile]:
    """The files by the paths under which they are served."""
    folder = files("plt_tui.server").joinpath("page")
    found = {entry.name: entry for entry in folder.iterdir() if entry.is_file() and _media(entry.name)}
    return {
        "/" if name == INDEX else f"/static/{name}": StaticFile(_media(name), entry.read_bytes())
        for name, entry in sorted(found.items())
    }


def _media(name: str) -> str:
    """The media type of a file of this name; empty for what is not served, such as an editor's copy."""
    return MEDIA.get(name[name.rfind(".") :], "") if "." in name else ""
