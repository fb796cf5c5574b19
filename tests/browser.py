"""A real browser for tests: the system's Chromium without a window, driven by Playwright.

For tests that are no coroutines: Playwright's own loop runs in their thread. Each visit is a browser of its own, so that
nothing is left of it afterwards, neither a process nor a token. Does not know which page it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEADLINE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Visit:
    """An open page, and what came of it so far."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings in the console, with those of a broken policy, and exceptions that nothing caught."""
    asked: list[str] = field(default_factory=list)
    """Addresses of all requests, WebSockets included."""

    @property
    def hosts(self) -> set[str]:
        """Who was asked for anything."""
        return {urlsplit(url).netloc for url in self.asked if not url.startswith("data:")}

    @property
    def is_too_wide(self) -> bool:
        """True when something sticks out to the side, so that the page scrolls there."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def chromium() -> str:
    """The path of the browser. Fails the test where there is none: what a person sees must have been looked at."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        pytest.fail(f"no browser: none of {', '.join(NAMES)} is on the PATH (Debian, Ubuntu: apt-get install chromium)")
    return found


@contextmanager
def visit(
    url: str, *, width: int = 1280, height: int = 900, scheme: Literal["dark", "light"] = "dark", scale: float = 1.0
) -> Iterator[Visit]:
    """The page at `url` in a window of so many CSS pixels. `scale`: device pixels for each of them."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses to put root into its sandbox
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=[*sandbox, "--disable-dev-shm-usage"])
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale
            )
            context.set_default_timeout(DEADLINE_MS)
            visited = Visit(context.new_page())
            _listen(visited)
            visited.page.goto(url)
            yield visited
        finally:
            browser.close()


def _listen(visited: Visit) -> None:
    page = visited.page
    page.on(
        "console", lambda message: visited.complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: visited.complaints.append(str(error)))
    page.on("request", lambda request: visited.asked.append(request.url))
    page.on("websocket", lambda socket: visited.asked.append(socket.url))
