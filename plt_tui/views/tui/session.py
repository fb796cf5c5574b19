"""One run as the UI holds it: the connection, the model it fills, and commands on their way out.

Draws nothing: screens look at `model`, `link` and `trouble` when they like. Invariant: whatever goes wrong with the
connection ends as words in `trouble`, never as an exception in the UI.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from plt_tui.config.schema import RunConfig
from plt_tui.errors import PltTuiError
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.text import safe_line
from plt_tui.views.files import RunFiles
from plt_tui.views.model import RunModel
from plt_tui.views.source import Elsewhere, RecordSource, Source

Link = Literal["connecting", "connected", "closed"]
"""State of the connection; `closed` is final."""

TURN_S = 0.01
"""Longest stretch of folding history before keys and drawing get their turn."""
FATE_S, FATE_CHECK_S = 2.0, 0.05
"""How long a run whose hub has gone may seem to be held by somebody, and how often one looks."""
SILENCE_S = 5.0
"""A live hub tells its gauges every second; one that has said nothing for this long does not answer."""


class RunSession:
    """A run being watched. Used from the UI's event loop only."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Source]],
        *,
        name: str,
        config: RunConfig | None,
        readonly: bool,
        actor: str,
        files: RunFiles | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.model = RunModel()
        self.name = safe_line(name)
        self.config = config
        self.files = files
        """What may be asked of the run's files; None where the view has no access to them."""
        self.elsewhere = elsewhere
        """The machine that the run is on; None: this one."""
        self.link: Link = "connecting"
        self.trouble = ""
        """Why there is no connection, or that nobody answers on it; or empty."""
        self.is_cut = False
        """The connection has ended, or was never made, and not because the view was left."""
        self._connect = connect
        self._readonly = readonly
        self._actor = actor
        self._source: Source | None = None
        self._num_heard = 0
        """Events so far."""
        self._last_heard = (-1, 0.0)
        """How many they were when the last look found news, and when that was."""

    async def follow(self) -> None:
        """Connect and fold events until none can come."""
        try:
            self._source = await self._connect()
            self.link = "connected"
            await self._fold_all(self._source)
            if not self.model.state.is_over:
                self.trouble = "the hub has closed the connection"
        except (PltTuiError, OSError) as error:
            self.trouble = safe_line(str(error))
        finally:
            self.link = "closed"
            if self._source is not None:
                await self._source.close()
        self.is_cut = True
        if self._source is not None and self.files is not None and not self.model.state.is_over:
            await self._learn_fate(self.files)

    async def _learn_fate(self, files: RunFiles) -> None:
        """The hub has gone without a last word: fold what the record says beyond what was heard, or tell that the run goes on.

        A hub that dies lets go of the run a moment after its connections.
        """
        model, told = self.model, None
        give_up_at = time.monotonic() + FATE_S
        try:
            while told is None:
                is_last = time.monotonic() > give_up_at  # before the look: who was stopped meanwhile looks once more
                told = await asyncio.to_thread(files.last_words, model.state, model.last_seq, model.is_live)
                if is_last:
                    break
                if told is None:
                    await asyncio.sleep(FATE_CHECK_S)
        except (PltTuiError, OSError) as error:
            self.trouble = f"{self.trouble}; {safe_line(str(error))}"
            return
        if told is None:
            again = self.elsewhere.again if self.elsewhere is not None else self.name
            self.trouble = f"{self.trouble}, but the run goes on: plt-tui attach {again}"
            return
        await self._fold_all(RecordSource(told))

    async def _fold_all(self, source: Source) -> None:
        turn_began = time.perf_counter()
        async for event in source.events():
            self.model.fold(event)
            self._num_heard += 1
            if time.perf_counter() - turn_began > TURN_S:
                await asyncio.sleep(0)
                turn_began = time.perf_counter()

    def notice_silence(self, now: float) -> None:
        """Say in `trouble` that the hub does not answer, and take it back once it does. `now`: time.monotonic()."""
        if self.link != "connected":
            self._last_heard = (self._num_heard, now)
            return
        if self._num_heard != self._last_heard[0]:
            self._last_heard = (self._num_heard, now)
        silent_s = now - self._last_heard[1]
        self.trouble = ""
        if silent_s >= SILENCE_S:
            link = ", or the link to it is slow" if self.elsewhere is not None else ""
            hint = f"it is stopped, or its machine has no time for it{link}; what is sent now waits for it"
            self.trouble = f"the hub has not answered for {silent_s:.0f} s: {hint}"

    def refusal(self, *, needs_ranks: bool = False, resume_key: str = "") -> str:
        """Why no command can be sent now, or none that `needs_ranks`; empty when one can.

        resume_key: the key that brings a hibernated run back; not given where nobody is told.
        """
        state = self.model.state
        if state.is_over:
            resume = self.typed(f"plt-tui run --resume auto --name {self.name}")
            return f"the run has {state.phase}: nothing to steer; {resume} goes on with it"
        if self.link == "connecting":
            return "not connected to the run yet"
        if self.link == "closed":
            return f"not connected to the run: {self.trouble}"
        if self.is_readonly:
            return "opened read-only: attach without --readonly to steer"
        if needs_ranks and state.phase == "hibernated":
            return f"hibernated: {resume_key or 'resume'} brings it back"
        return ""

    def typed(self, command: str) -> str:
        """`command`, a line that begins with `plt-tui`, as one types it at this terminal."""
        return self.elsewhere.typed(command) if self.elsewhere is not None else command

    @property
    def is_readonly(self) -> bool:
        """True when this view may only look."""
        return self._readonly or (self._source is not None and self._source.readonly)

    async def send(self, name: str, args: dict[str, Any]) -> Command:
        """Send one command. Raises: PltTuiError when it cannot be sent or is malformed."""
        command = new_command(name, args, self._actor)
        assert self._source is not None, "refusal() was not asked"
        await self._source.send(command)
        return command
