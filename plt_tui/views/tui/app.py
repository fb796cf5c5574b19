"""The Textual application: the first screen (a run, all runs, or a comparison), the theme, and what ends it.

Connects through a function it is given and knows no socket. Invariant: however it ends (key, signal, lost terminal), the
terminal is restored and the run goes on unless the user chose to stop it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import App, SystemCommand
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.screen import Screen

from plt_tui.config.schema import RunConfig, UiSection
from plt_tui.views.files import RunFiles
from plt_tui.views.model import RunModel
from plt_tui.views.source import Elsewhere, Source
from plt_tui.views.tui import terminal
from plt_tui.views.tui.driver import ANSWER_S, BackgroundTold, ViewDriver
from plt_tui.views.tui.palettes import AUTO, WITHOUT_COLORS, curve_colors, legible_colors, suiting_theme
from plt_tui.views.tui.person import Person
from plt_tui.views.tui.runs import OpenedRun, RunsPort
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.screens.palette import RunCommands
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.squeeze import Squeezer

if TYPE_CHECKING:
    from plt_tui.views.tui.screens.command_line import ThemeChosen

__all__ = ["LeaveChoice", "RunApp"]

SILENCE_CHECK_S = 1.0
MAX_PROBLEMS, PROBLEM_S = 4, 20.0
"""Most sentences about what is wrong with the settings, and how long they stand."""


class RunApp(App[LeaveChoice]):
    """The UI, opened on one run, on a comparison or on all runs, over which the other screens come and go.

    Its result says why it was closed; None with a `return_code` of 128 + n when signal n closed it.
    """

    TITLE = "plt-tui"
    CSS = """
    RunApp.-no-color .pane:focus, RunApp.-no-color .pane:focus-within { border: heavy $foreground; }
    RunApp:ansi OptionList > .option-list--option-highlighted {
        background: ansi_default !important;
        text-style: bold underline !important;
    }
    """
    COMMANDS = App.COMMANDS | {RunCommands}

    def __init__(
        self,
        connect: Callable[[], Awaitable[Source]] | None = None,
        *,
        name: str = "",
        ui: UiSection,
        config: RunConfig | None = None,
        readonly: bool = False,
        actor: str = "",
        files: RunFiles | None = None,
        elsewhere: Elsewhere | None = None,
        clock: Callable[[], float] = time.time,
        compare: Sequence[OpenedRun] = (),
        runs: RunsPort | None = None,
        person: Person | None = None,
    ) -> None:
        """Of `connect` (one run), `compare` and `runs` the first that is given is what the UI opens on."""
        self.person = person or Person()
        """Who sits at the terminal."""
        self._ui = ui
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.animation_level = "none"
        self.set_class(self.no_color, "-no-color")
        self._session: RunSession | None = None
        if connect is not None:
            self._session = RunSession(
                connect, name=name, config=config, readonly=readonly, actor=actor, files=files, elsewhere=elsewhere
            )
        self._compare, self._runs = compare, runs
        self._actor = actor
        self._clock = clock
        self._job_control: terminal.JobControl | None = None

    @property
    def model(self) -> RunModel:
        """What the UI knows of the run that it was opened on; still there after `run` has returned."""
        assert self._session is not None, "opened on no run"
        return self._session.model

    @property
    def trouble(self) -> str:
        """Why the UI had no connection to that run any more when it was left; empty where it had one, or needed none."""
        assert self._session is not None, "opened on no run"
        return self._session.trouble if self._session.is_cut else ""

    async def run_async(self, **options: Any) -> LeaveChoice | None:
        """Run until the view is left, or ended by a signal or the loss of its terminal. `options`: Textual's."""
        with terminal.guarded(self._leave_at_once):
            return await super().run_async(**options)

    def on_mount(self) -> None:
        """Take the theme, watch the hub, open the run."""
        if self._ui.theme not in (AUTO, *self.available_themes):
            self.notify(f"unknown theme {self._ui.theme!r}; ctrl+p lists themes", severity="warning", markup=False)
        answer_by = time.monotonic() + ANSWER_S
        self._ask_background()
        screen = self._first_screen()
        self._take_theme(self._told_background(answer_by))
        if isinstance(self._driver, ViewDriver) and self._ui.low_bandwidth:
            self._driver.squeezer = Squeezer()
        if self._driver is not None and not self.is_headless:
            self._job_control = terminal.JobControl(self._driver, self._redraw)
            self.set_interval(SILENCE_CHECK_S, self._notice_silence)
            self._politeness = self.set_interval(SILENCE_CHECK_S, self._step_back)
        self._take_settings()
        self.push_screen(screen)

    def _take_settings(self) -> None:
        """The person's keys, and what is wrong with their settings."""
        keymap = self.person.keymap
        self.set_keymap(keymap.overrides)
        problems = [*self.person.settings.problems, *keymap.problems]
        more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
        for problem in [*problems[:MAX_PROBLEMS], *more]:
            self.notify(problem, title="settings", severity="warning", timeout=PROBLEM_S, markup=False)

    def on_theme_chosen(self, event: ThemeChosen) -> None:
        """Other colours, until the view is left."""
        self._ui = self._ui.model_copy(update={"theme": event.name})
        self._take_theme(None)

    def _first_screen(self) -> Screen[None]:
        """With the modules of it, and of no other: most of what there is to load waits for nothing that the terminal tells."""
        if self._session is not None:
            from plt_tui.views.tui.screens.run import RunScreen

            return RunScreen(self._session, self._ui, self._clock, self.exit)
        if self._compare:
            from plt_tui.views.tui.screens.compare import CompareScreen

            return CompareScreen(self._compare, self._ui, actor=self._actor, leave=self.exit)
        from plt_tui.views.tui.screens.runs import RunsScreen

        assert self._runs is not None, "nothing to open"
        return RunsScreen(self._runs, self._ui, actor=self._actor, clock=self._clock, leave=self.exit)

    def _step_back(self) -> None:
        """Once the history is there, which somebody waits for; beside a run that is over there is nobody to give way to."""
        if self._session is not None and self._session.model.is_live and not self._session.model.state.is_over:
            self._politeness.stop()
            terminal.step_back()

    def _notice_silence(self) -> None:
        from plt_tui.views.tui.screens.run import RunScreen

        for screen in self.screen_stack:
            if isinstance(screen, RunScreen):
                screen.session.notice_silence(time.monotonic())

    def get_driver_class(self) -> type[Driver]:
        """Ours on a real terminal."""
        found = super().get_driver_class()
        return ViewDriver if found is LinuxDriver else found

    def get_css_variables(self) -> dict[str, str]:
        """Textual's made legible, and the colours of the palette."""
        variables = super().get_css_variables()
        variables |= legible_colors(variables, is_dark=self.current_theme.dark)
        variables |= curve_colors(self._ui.palette, variables)
        variables |= WITHOUT_COLORS if "NO_COLOR" in os.environ else {}
        self.theme_variables = variables
        return variables

    def _ask_background(self) -> None:
        """Let the terminal tell its background, where it matters."""
        if self._ui.theme not in self.available_themes and isinstance(self._driver, ViewDriver):
            self._driver.ask_background()

    def _told_background(self, deadline: float) -> bool | None:
        """Whether the background is dark, if that was asked and is answered by `deadline`, in monotonic time."""
        return self._driver.told_background(deadline) if isinstance(self._driver, ViewDriver) else None

    def on_background_told(self, event: BackgroundTold) -> None:
        """An answer that came too late for the first frame, or another one after the view was stopped."""
        self._take_theme(event.is_dark)

    def _take_theme(self, is_dark: bool | None) -> None:
        wanted = self._ui.theme if self._ui.theme in self.available_themes else AUTO
        if wanted != AUTO:
            is_dark = self.available_themes[wanted].dark
        is_poor = isinstance(self._driver, ViewDriver) and self.console.color_system in (None, "standard")
        self.theme = suiting_theme(wanted, has_few_colors=self.no_color or is_poor, is_dark=is_dark is not False)

    def _redraw(self) -> None:
        """The terminal is ours again, and may look otherwise than before."""
        self._ask_background()
        self.refresh(layout=True)

    def exit(self, result: LeaveChoice | None = None, return_code: int = 0, message: Any = None) -> None:
        """Leave, whatever asks for it; the terminal is not taken again on the way out."""
        if self._job_control is not None:
            self._job_control.close()
            self._job_control = None
        super().exit(result, return_code, message)

    def _leave_at_once(self, exit_code: int) -> None:
        self.exit(return_code=exit_code)

    def action_suspend(self) -> None:
        """Stop like a shell's job. Textual's raw mode makes a key of ctrl+z, which the terminal would make a signal of."""
        if self._job_control is None or self.is_web:
            self.notify("there is no shell to go back to", severity="warning", markup=False)
        else:
            os.kill(0, signal.SIGTSTP)  # whoever started this view in the foreground stops with it, or the shell would wait

    async def action_quit(self) -> None:
        """Leave by asking, wherever the request comes from."""
        if hasattr(self.screen, "action_leave"):
            await self.screen.run_action("leave")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Of Textual's own commands those that have no key on this screen."""
        yield SystemCommand("theme", "Choose another colour theme.", self.action_change_theme)
        if not self.is_web and not hasattr(screen, "action_screenshot"):  # `plt-tui web` hands out no files
            keep_here = partial(self.deliver_screenshot, path=".")  # its own default, ~/Downloads, may not exist
            yield SystemCommand("screenshot", "Save the screen as an SVG picture in this folder.", keep_here)
