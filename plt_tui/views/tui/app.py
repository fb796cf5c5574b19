"""The Textual application: one session, one run screen, the theme, and what ends it.

Connects through a function it is given and knows no socket. Invariant: however it ends (key, signal, lost terminal), the
terminal is restored and the run goes on unless the user chose to stop it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from textual.app import App, SystemCommand
from textual.screen import Screen

from plt_tui.config.schema import RunConfig, UiSection
from plt_tui.views.model import RunModel
from plt_tui.views.source import Source
from plt_tui.views.tui import terminal
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.screens.palette import RunCommands
from plt_tui.views.tui.screens.run import RunScreen
from plt_tui.views.tui.session import RunSession

__all__ = ["LeaveChoice", "RunApp"]

SILENCE_CHECK_S = 1.0


class RunApp(App[LeaveChoice]):
    """The UI of one run. Its result says why it was closed; None with a `return_code` of 128 + n when signal n closed it."""

    TITLE = "plt-tui"
    COMMANDS = App.COMMANDS | {RunCommands}

    def __init__(
        self,
        connect: Callable[[], Awaitable[Source]],
        *,
        name: str,
        ui: UiSection,
        config: RunConfig | None,
        readonly: bool = False,
        actor: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        self._session = RunSession(connect, name=name, config=config, readonly=readonly, actor=actor)
        self._ui = ui
        self._clock = clock
        self._job_control: terminal.JobControl | None = None

    @property
    def model(self) -> RunModel:
        """What the UI knows of the run; still there after `run` has returned."""
        return self._session.model

    async def run_async(self, **options: Any) -> LeaveChoice | None:
        """Run until the view is left, or ended by a signal or the loss of its terminal. `options`: Textual's."""
        with terminal.guarded(self._leave_at_once):
            return await super().run_async(**options)

    def on_mount(self) -> None:
        """Take the theme, watch the hub, open the run."""
        if self._ui.theme in self.available_themes:
            self.theme = self._ui.theme
        else:
            self.notify(f"unknown theme {self._ui.theme!r}; ctrl+p lists themes", severity="warning", markup=False)
        if self._driver is not None and not self.is_headless:
            self._job_control = terminal.JobControl(self._driver, lambda: self.refresh(layout=True))
            self.set_interval(SILENCE_CHECK_S, lambda: self._session.notice_silence(time.monotonic()))
        self.push_screen(RunScreen(self._session, self._ui, self._clock))

    def exit(self, result: LeaveChoice | None = None, return_code: int = 0, message: Any = None) -> None:
        """Leave, whatever asks for it; the terminal is not taken again on the way out."""
        if self._job_control is not None:
            self._job_control.close()
            self._job_control = None
        super().exit(result, return_code, message)

    def _leave_at_once(self, exit_code: int) -> None:
        self.exit(return_code=exit_code)

    async def action_quit(self) -> None:
        """Leave by asking, wherever the request comes from."""
        if isinstance(self.screen, RunScreen):
            self.screen.action_leave()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Of Textual's own commands those that have no key here."""
        yield SystemCommand("theme", "Choose another colour theme.", self.action_change_theme)
        yield SystemCommand("screenshot", "Save the screen as an SVG picture.", self.deliver_screenshot)
