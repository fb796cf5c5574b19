"""The hub: one per run. It owns the run's folder, record, feed and ranks; views and signals talk to it, never to the ranks.

    submit(command) -> journal (synced) -> rank 0 -> all ranks at one step boundary -> status back -> journal, feed
    rank event      -> journal or metrics -> feed -> every view

Imports neither torch nor textual. Everything runs in one event loop; other threads only post into it. Invariant: what a view
was told is in the record first, or the alert "record" stands and says from which step on it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from dataclasses import replace

from plt_tui import __version__, failpoints
from plt_tui.config.edits import edits_to
from plt_tui.config.schema import RunConfig
from plt_tui.control.admission import FINAL_STATES, admitted, chosen_rewind, ends_at_once, unanswered, way_back
from plt_tui.control.attempt import Attempt
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder, RunInfo, boot_id, host_name
from plt_tui.control.logs import LogFollower
from plt_tui.control.machine import MachineWatch
from plt_tui.control.meeting import Meeting
from plt_tui.control.options import HubOptions
from plt_tui.control.placement import placed
from plt_tui.control.plateau import PlateauWatch
from plt_tui.control.record import Recorder, read_feed
from plt_tui.control.restart import GiveUp, decide, foreseen, where
from plt_tui.control.state import RunState, apply
from plt_tui.control.summary import newest_saved
from plt_tui.errors import EXIT_SIGINT, EXIT_SIGTERM, STOP_EXIT_CODES, PltTuiError, StorageError
from plt_tui.protocol.commands import Command, check, new_command, status_of
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CommandStatus,
    Done,
    End,
    Event,
    Failed,
    Gauges,
    Phase,
    Progress,
    Run,
    RunPhase,
)
from plt_tui.protocol.rank import RankSpec
from plt_tui.protocol.text import safe_line


class Hub:
    """One session of one run: `run` starts the ranks and returns the exit code when the session is over."""

    def __init__(self, folder: RunFolder, config: RunConfig, options: HubOptions) -> None:
        self._folder = folder
        self._config = config
        self._options = options
        self.feed: Feed = read_feed(folder)
        self._plateau = PlateauWatch(config.alerts)
        self._machine = MachineWatch()
        self._recorder = Recorder(folder, self.feed.last_seq, self._record_failing, step=lambda: self.feed.state.step)
        self._meeting = Meeting(folder.path)
        self._attempt = self._new_attempt()
        self._pending: dict[str, Command] = {}
        self._known_ids = {event.id for event in self.feed.events if isinstance(event, CommandStatus)}
        self._failures: list[Failed] = []
        """Of this session, one per attempt, since the last checkpoint of a later step."""
        self._rewind: CommandStatus | None = None
        """To the older checkpoint that a person chose, until the ranks have loaded it: before that they may refuse it."""
        self._follows_own_line = False
        """Another start of the ranks goes on from the run's newest checkpoint, no longer from the one that was chosen."""
        self._paused = False
        self._is_hibernating = False
        self._stop_exit_code: int | None = None
        self._interrupts = 0
        self._ended: asyncio.Future[End] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        ranks = range(len(options.placement.devices))
        self._logs = LogFollower({f"rank {rank}": folder.rank_log(rank) for rank in ranks}, self.feed.publish)
        self.info = RunInfo(
            name=folder.name,
            host=host_name(),
            pid=os.getpid(),
            boot_id=boot_id(),
            socket="",
            phase="starting",
            started_at=time.time(),
            version=__version__,
        )

    async def run(self) -> int:
        """Train until the target, a stop or a failure that cannot be retried; returns the exit code of the run.

        Raises: StorageError when nothing could be started, RankFailed for what nobody foresaw, once the record says so.
        """
        problem: PltTuiError | None = None
        self._ended = asyncio.get_running_loop().create_future()
        self._spawn_task(self._logs.follow())
        self._folder.keep_reserve()
        with contextlib.closing(self._recorder):
            try:
                self._enter("starting")
                self._settle_past()
                self._start_ranks()
                end = await self._ended
            except Exception as error:  # noqa: BLE001  (the border of the run: whatever ends it, the record says so)
                problem = foreseen(error)
                words = safe_line(str(problem))
                end = End(phase="failed", step=self.feed.state.step, exit_code=problem.exit_code, reason=words)
            finally:
                await self._attempt.kill()
                self._meeting.clear()
                for task in self._tasks:
                    task.cancel()
                self._logs.read(to_the_end=True)
            self._refuse_all_but("", "the run ended first")
            self.publish(end)
            self.update_info(phase=end.phase)
        if problem is not None:
            raise problem
        return end.exit_code

    def update_info(self, **changes: str) -> None:
        """Write into `run.json` what has changed: `phase`, or where the doors are. A full disk is reported, not raised."""
        self.info = replace(self.info, **changes)  # type: ignore[arg-type]  # only texts change
        try:
            self._folder.write_info(self.info)
        except OSError as error:
            problem = f"run.json cannot be written: {error.strerror}"
            self._record_failing("; ".join(filter(None, (problem, self._recorder.problem))))

    async def submit(self, command: Command) -> None:
        """Take a command from a view: it is in the journal before a rank hears of it.

        A repeat of a known id does nothing. While the run is stopping only a stop `now` is taken: it ends the run at once.
        Raises: UsageError when it can never be applied; StorageError when the journal cannot be written.
        """
        check(command)
        if command.id in self._known_ids:
            return
        state, is_stopping = self._line, self._stop_exit_code is not None
        command = admitted(
            command, self._config, state, name=self._folder.name, is_training=self._attempt.is_training, is_stopping=is_stopping
        )
        self._request(command)
        failpoints.reach("hub", "requested", command.name)
        if command.name == "note":
            self.publish(status_of(command, "applied", state.step))
        elif command.name == "stop":
            self._stop(command, EXIT_SIGTERM, within_grace=ends_at_once(command))
        else:
            self._forward(command)
            if self._is_hibernated:  # it was a resume
                self._wake()

    def stop_by_signal(self, number: signal.Signals) -> None:
        """One of STOP_EXIT_CODES came: save and end within the grace time; a second SIGINT ends at once.

        A stop that a person asked for may take its time to save, until a signal comes. Call in the event loop, once `run` runs.
        """
        if self._ended is not None and self._ended.done():
            return
        self._interrupts += number is signal.SIGINT
        if self._interrupts > 1:
            self._end("stopped", EXIT_SIGINT, "stopped at once by a second SIGINT; the last steps were not saved")
        elif self._stop_exit_code is None:
            command = new_command("stop", actor=f"signal {number.name}")
            self._request(command)
            self._stop(command, STOP_EXIT_CODES[number], within_grace=True)
        else:
            self._spawn_task(self._enforce_grace(f"stopped by signal {number.name}"))

    def _request(self, command: Command) -> None:
        """Write down that `command` was asked for. Raises: StorageError when that fails; but a stop is always taken."""
        requested = replace(status_of(command, "requested"), time=time.time())
        record = self._recorder.record if command.name == "stop" else self._recorder.record_now
        try:
            event = record(requested)
        except OSError as error:
            raise StorageError(
                f"{command.name}: the journal cannot be written ({error.strerror}), and nothing may change unrecorded; "
                "free some space"
            ) from None
        self._known_ids.add(command.id)
        self.feed.publish(event)

    def _stop(self, command: Command, exit_code: int, *, within_grace: bool) -> None:
        """Let the ranks save and end; at once where no rank trains, or where somebody will not wait for an earlier stop."""
        reason = f"stopped by {command.actor}"
        if self._stop_exit_code is not None:
            self._end_by(command, self._stop_exit_code, f"{reason} at once; the last steps were not saved")
            return
        self._stop_exit_code = exit_code
        if not self._attempt.is_training or self._is_hibernated:
            self._end_by(command, exit_code, f"{reason} while no rank was training; {newest_saved(self.feed.state)}")
            return
        self._forward(command)  # before the disk is waited for: each step costs the grace some time
        self._enter("stopping", reason)
        if within_grace:
            self._spawn_task(self._enforce_grace(reason))

    def _end_by(self, command: Command, exit_code: int, reason: str) -> None:
        self.publish(status_of(command, "applied", self.feed.state.step))
        self._end("stopped", exit_code, reason)

    def _forward(self, command: Command) -> None:
        """Hand `command` to the ranks, and to those after them if they fail before they answer."""
        self._pending[command.id] = command
        self._attempt.send(command)

    def publish(self, event: Event) -> None:
        """Record `event`, then show it to every view."""
        stamped = event if event.time else replace(event, time=time.time())
        self.feed.publish(self._recorder.record(stamped))

    def on_gauges(self, gauges: Gauges) -> None:
        """The machine was read: show it, and tell of little space and slow GPUs. Call in the event loop."""
        self.feed.publish(gauges)
        for alert in self._machine.look(self.feed.state, gauges):
            self.publish(alert)

    def on_event(self, event: Event) -> None:
        """A rank said something that is no end."""
        match event:
            case Progress() if self.feed.state.phase == "starting":
                self.publish(event)
                self._enter("preparing", event.task)
            case Run():
                if self._rewind is not None:
                    self.publish(self._rewind)
                    self._rewind = None
                self.publish(event)
                if self._stop_exit_code is None:
                    self._enter("paused" if self._paused else "running")
            case CommandStatus():
                self._rank_answered(event)
            case Checkpoint():
                self._follows_own_line = True
                self._failures = [failure for failure in self._failures if failure.step >= event.step]
                self._recorder.sync()
                failpoints.reach("hub", "checkpoint", event.step)
                self.publish(event)
                if "checkpoint" in self.feed.state.alerts:
                    self.publish(Alert(topic="checkpoint", text=""))
            case _:
                self.publish(event)
        if (plateau := self._plateau.look(self.feed)) is not None:
            self.publish(plateau)

    def on_failed(self, cause: Failed) -> None:
        """A rank failed and all are gone: start them again, or end the run."""
        self.publish(cause)
        verdict = decide(cause, self._failures, self._config.control.max_restarts)
        self._failures.append(cause)
        if self._stop_exit_code is not None and cause.exit_code != StorageError.exit_code:
            words = f"a rank failed while stopping: {cause.message}; {newest_saved(self.feed.state)}"
            self._end("stopped", self._stop_exit_code, words)
        elif self._is_hibernating:  # all is saved: a rank that stumbles on its way out has nothing left to do
            self._spawn_task(self._hibernate())
        elif isinstance(verdict, GiveUp):
            self._end("failed", verdict.exit_code, verdict.reason)
        else:
            self._attempt = self._new_attempt()
            self._enter("restarting", f"{where(cause)}: {cause.message}")
            self._spawn_task(self._restart(verdict.after_s))

    def on_done(self, done: Done) -> None:
        """All ranks left in good order: they reached the target, were stopped, or hibernate."""
        if done.finished:
            self._end("finished", 0, "target reached", done)
        elif self._is_hibernating and self._stop_exit_code is None:
            self._spawn_task(self._hibernate())
        else:
            exit_code = self._stop_exit_code if self._stop_exit_code is not None else EXIT_SIGTERM
            self._end("stopped", exit_code, self.feed.state.reason, done)

    @property
    def _is_hibernated(self) -> bool:
        return self.feed.state.phase == "hibernated"

    def _refuse_all_but(self, verb: str, reason: str) -> None:
        """Answer the commands that wait for ranks which will not come; those of `verb` wait on."""
        for command in [command for command in self._pending.values() if command.name != verb]:
            self.publish(status_of(self._pending.pop(command.id), "refused", reason=reason))

    async def _hibernate(self) -> None:
        """No process holds a device any more; the hub waits for a resume."""
        await self._attempt.kill()  # one may hang in its shutdown
        self._attempt = self._new_attempt()
        self._is_hibernating = False
        if self._stop_exit_code is not None:  # it came while the ranks were leaving, as what follows may have
            self._end("stopped", self._stop_exit_code, self.feed.state.reason)
            return
        self._enter("hibernated", f"at step {self.feed.state.step}, saved")
        self._refuse_all_but("resume", f"the run is hibernated; {way_back(self._folder.name)}")
        if self._pending:
            self._wake()

    def _wake(self) -> None:
        """Start the ranks again, which find the resume that woke them."""
        self._enter("starting", "back from hibernation")
        self._spawn_task(self._restart(0.0))  # whose failure is the run's, not that of who asked

    async def _restart(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._start_ranks()

    def _settle_past(self) -> None:
        """Write down what a hub that was killed could not; see whether a person chose an older checkpoint to go on from."""
        for refusal in unanswered(self.feed.state):
            self.publish(refusal)
        self._rewind = chosen_rewind(self.feed.state, self._options.resume_step, self._options.resume)

    @property
    def _line(self) -> RunState:
        """What the ranks of a start go on from."""
        return self.feed.state if self._rewind is None else apply(self.feed.state, self._rewind)

    def _new_attempt(self) -> Attempt:
        control = self._config.control
        return Attempt(self._folder, self, control=control, step=lambda: self._line.step, spawn=self._spawn_task)

    def _start_ranks(self) -> None:
        line = self._line
        told = RankSpec(
            entry=self._options.entry,
            run_dir=str(self._folder.path),
            meeting_file=str(self._meeting.fresh()),
            hub_pid=os.getpid(),
            resume="auto" if self._follows_own_line else self._options.resume,
            edits=edits_to(line.edits),
            known_step=line.known_step,
            guard_acts=line.guard_acts,
            paused=self._paused,
            plugins=self._options.plugins,
        )
        self._attempt.start(placed(told, self._options.placement))
        for command in self._pending.values():
            self._attempt.send(command)

    def _rank_answered(self, status: CommandStatus) -> None:
        failpoints.reach("hub", status.status, status.name)
        self.publish(status)
        if status.status in FINAL_STATES:
            self._pending.pop(status.id, None)
        self._is_hibernating |= (status.name, status.status) == ("hibernate", "applied")
        if (status.name, status.status) == ("rewind", "applied") and status.step < (self._options.resume_step or 0):
            self._follows_own_line = True  # the chosen checkpoint was set aside
        if status.status == "applied" and status.name in ("pause", "resume") and self._stop_exit_code is None:
            self._paused = status.name == "pause"
            phase: RunPhase = "paused" if self._paused else "running"
            if phase != self.feed.state.phase:
                self._enter(phase, f"by {status.actor}")

    async def _enforce_grace(self, reason: str) -> None:
        grace_s = self._config.control.grace_s
        await asyncio.sleep(grace_s)
        exit_code = self._stop_exit_code if self._stop_exit_code is not None else EXIT_SIGTERM
        why = f"{reason}; not saved within {grace_s:g} s (control.grace_s); {newest_saved(self.feed.state)}"
        self._end("stopped", exit_code, why)

    def _end(self, phase: RunPhase, exit_code: int, reason: str, done: Done | None = None) -> None:
        if self._ended is None or self._ended.done():
            return
        step, sha = (done.step, done.weights_sha256) if done is not None else (self.feed.state.step, "")
        self._ended.set_result(End(phase=phase, step=step, exit_code=exit_code, weights_sha256=sha, reason=safe_line(reason)))

    def _enter(self, phase: RunPhase, reason: str = "") -> None:
        self.publish(Phase(phase=phase, reason=safe_line(reason), step=self.feed.state.step))
        self.update_info(phase=phase)

    def _record_failing(self, problem: str) -> None:
        self.feed.publish(Alert(time=time.time(), topic="record", text=problem, level="error"))

    def _spawn_task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
