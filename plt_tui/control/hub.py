"""The hub: one per run. It owns the run's folder, record, feed and ranks; views and signals talk to it, never to the ranks.

    submit(command) -> journal (synced) -> rank 0 -> all ranks at one step boundary -> status back -> journal, feed
    rank event      -> journal or metrics -> feed -> every view

Imports neither torch nor textual. Everything runs in one event loop; other threads only post into it. Invariant: what a view
was told is in the record first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, replace

from plt_tui import __version__
from plt_tui.config.hyper import check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder, RunInfo, boot_id, host_name
from plt_tui.control.logs import LogFollower, last_lines
from plt_tui.control.placement import Placement
from plt_tui.control.record import Recorder, read_feed
from plt_tui.control.restart import GiveUp, decide, exit_failure, root_cause, where
from plt_tui.control.supervisor import Supervisor
from plt_tui.errors import EXIT_SIGINT, EXIT_SIGTERM, UsageError
from plt_tui.protocol.commands import Command, check, new_command, status_of
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CommandState,
    CommandStatus,
    Done,
    End,
    Event,
    Failed,
    Phase,
    Progress,
    Run,
    RunPhase,
)
from plt_tui.protocol.rank import RankSpec
from plt_tui.protocol.text import safe_line, safe_text

TRAINING_ENTRY = "plt_tui.training.worker:main"
GATHER_S = 0.5
"""After a first failure: how long the other ranks' failures are waited for, before the cause is named."""
FAILURE_LOG_LINES = 50
_FINAL_COMMAND_STATES = ("applied", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """What the hub is told beside the run's configuration."""

    placement: Placement
    resume: str = "auto"
    entry: str = TRAINING_ENTRY


class Hub:
    """One session of one run: `run` starts the ranks and returns the exit code when the session is over."""

    def __init__(self, folder: RunFolder, config: RunConfig, options: HubOptions) -> None:
        self._folder = folder
        self._config = config
        self._options = options
        self.feed: Feed = read_feed(folder)
        self._recorder = Recorder(folder, self.feed.last_seq, self._record_failing)
        self._supervisor = Supervisor(self)
        self._pending: dict[str, Command] = {}
        self._known_ids = {event.id for event in self.feed.events if isinstance(event, CommandStatus)}
        self._failures: list[Failed] = []
        self._session_failures: list[Failed] = []
        self._done: dict[int, Done] = {}
        self._alive: set[int] = set()
        self._attempt = 0
        self._has_saved = False
        self._paused = False
        self._is_training = False
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
        """Train until the target, a stop or a failure that cannot be retried; returns the exit code of the run."""
        self._ended = asyncio.get_running_loop().create_future()
        self._spawn_task(self._logs.follow())
        with contextlib.closing(self._recorder):
            try:
                self._enter("starting")
                self._start_ranks()
                end = await self._ended
            finally:
                await self._supervisor.kill()
                for task in self._tasks:
                    task.cancel()
                self._logs.read(to_the_end=True)
            for command in self._pending.values():
                self.publish(status_of(command, "refused", reason="the run ended first"))
            self.publish(end)
            self._update_info(phase=end.phase)
        return end.exit_code

    def update_info(self, *, socket: str, metrics_url: str) -> None:
        """Write down where the doors are, once they are open."""
        self.info = replace(self.info, socket=socket, metrics_url=metrics_url)
        self._folder.write_info(self.info)

    async def submit(self, command: Command) -> None:
        """Take a command from a view: it is in the journal before a rank hears of it.

        A repeat of a known id does nothing. Raises: UsageError when it can never be applied.
        """
        check(command)
        if command.id in self._known_ids:
            return
        if self.feed.state.is_over or self._stop_exit_code is not None:
            raise UsageError(f"{command.name}: the run is ending or has ended; see plt-tui show {self._folder.name}")
        if command.name == "set":
            name, value, mode = check_edit(command.args["name"], command.args["value"], command.args.get("mode", "set"))
            command = replace(command, args={"name": name, "value": value, "mode": mode})
        self._known_ids.add(command.id)
        self._publish_status(command, "requested")
        if command.name == "note":
            self._publish_status(command, "applied", step=self.feed.state.step)
        elif command.name == "stop":
            self._stop(command, EXIT_SIGTERM)
        else:
            self._forward(command)

    def stop_by_signal(self, *, interrupt: bool) -> None:
        """SIGINT (`interrupt`) or SIGTERM: save and end; a second SIGINT ends at once. Call in the event loop."""
        exit_code, name = (EXIT_SIGINT, "SIGINT") if interrupt else (EXIT_SIGTERM, "SIGTERM")
        self._interrupts += interrupt
        if self._interrupts > 1:
            self._end("stopped", exit_code, "stopped at once by a second SIGINT; the last steps were not saved")
        elif self._stop_exit_code is None:
            command = new_command("stop", actor=f"signal {name}")
            self._publish_status(command, "requested")
            self._stop(command, exit_code)

    def _stop(self, command: Command, exit_code: int) -> None:
        """Let the ranks save and end, within the grace time; ranks that do not train yet have nothing to save."""
        reason = f"stopped by {command.actor}"
        self._stop_exit_code = exit_code
        if self._is_training:
            self._enter("stopping", reason)
            self._spawn_task(self._enforce_grace(reason))
            self._forward(command)
        else:
            self._publish_status(command, "applied", step=self.feed.state.step)
            self._end("stopped", exit_code, f"{reason} before training began; there was nothing new to save")

    def _forward(self, command: Command) -> None:
        """Hand `command` to the ranks, and to those after them if they fail before they answer."""
        self._pending[command.id] = command
        self._supervisor.send(command)

    def publish(self, event: Event) -> None:
        """Record `event`, then show it to every view."""
        stamped = event if event.time else replace(event, time=time.time())
        self.feed.publish(self._recorder.record(stamped))

    def on_rank_event(self, rank: int, event: Event) -> None:
        """A rank said something."""
        match event:
            case Failed():
                tail = last_lines(self._folder.rank_log(rank), FAILURE_LOG_LINES)
                self._failed(replace(event, rank=rank, message=safe_text(event.message), log_tail=tail))
            case Done():
                self._done[rank] = event
            case Progress() if self.feed.state.phase == "starting":
                self.publish(event)
                self._enter("preparing", event.task)
            case Run():
                self._is_training = True
                self.publish(event)
                if self._stop_exit_code is None:
                    self._enter("paused" if self._paused else "running")
            case CommandStatus():
                self._rank_answered(event)
            case Checkpoint():
                self._has_saved = True
                self._recorder.sync()
                self.publish(event)
                if "checkpoint" in self.feed.state.alerts:
                    self.publish(Alert(topic="checkpoint", text=""))
            case _:
                self.publish(event)

    def on_rank_exit(self, rank: int, exit_code: int) -> None:
        """A rank's process ended, and everything it said has been delivered."""
        self._alive.discard(rank)
        if rank in self._done and exit_code == 0:
            if not self._alive and not self._failures:
                self._all_done(self._done[0])
        elif all(failure.rank != rank for failure in self._failures):
            tail = last_lines(self._folder.rank_log(rank), FAILURE_LOG_LINES)
            self._failed(exit_failure(rank, exit_code, time.time(), tail))

    def _start_ranks(self) -> None:
        devices = self._options.placement.devices
        edits = [asdict(edit) for edit in self.feed.state.edits]
        specs = [
            RankSpec(
                entry=self._options.entry,
                run_dir=str(self._folder.path),
                rank=rank,
                world_size=len(devices),
                device=device,
                threads=self._options.placement.threads,
                attempt=self._attempt,
                hub_pid=os.getpid(),
                resume="auto" if self._has_saved else self._options.resume,
                edits=edits,
                paused=self._paused,
            )
            for rank, device in enumerate(devices)
        ]
        self._alive = set(range(len(specs)))
        self._failures, self._done, self._is_training = [], {}, False
        self._supervisor.start(specs)
        for command in self._pending.values():
            self._supervisor.send(command)

    def _rank_answered(self, status: CommandStatus) -> None:
        self.publish(status)
        if status.status in _FINAL_COMMAND_STATES:
            self._pending.pop(status.id, None)
        if status.status == "applied" and status.name in ("pause", "resume") and self._stop_exit_code is None:
            self._paused = status.name == "pause"
            self._enter("paused" if self._paused else "running", f"by {status.actor}")

    def _failed(self, failure: Failed) -> None:
        if not self._failures:
            self._spawn_task(self._recover())
        self._failures.append(replace(failure, step=self.feed.state.step, while_starting=not self._is_training))

    async def _recover(self) -> None:
        """Name the cause of the first failures, end all ranks, and start them again or end the run."""
        await asyncio.sleep(GATHER_S)
        cause = root_cause(self._failures)
        await self._supervisor.kill()
        self.publish(cause)
        verdict = decide(cause, self._session_failures, self._config.control.max_restarts)
        self._session_failures.append(cause)
        if self._stop_exit_code is not None:
            self._end("stopped", self._stop_exit_code, f"a rank failed while stopping: {cause.message}")
        elif isinstance(verdict, GiveUp):
            self._end("failed", verdict.exit_code, verdict.reason)
        else:
            self._enter("restarting", f"{where(cause)}: {cause.message}")
            await asyncio.sleep(verdict.after_s)
            self._attempt += 1
            self._start_ranks()

    async def _enforce_grace(self, reason: str) -> None:
        grace_s = self._config.control.grace_s
        await asyncio.sleep(grace_s)
        saved = self.feed.state.checkpoints
        last = f"the newest checkpoint is {saved[-1].path}" if saved else "there is no checkpoint"
        exit_code = self._stop_exit_code if self._stop_exit_code is not None else EXIT_SIGTERM
        self._end("stopped", exit_code, f"{reason}; not saved within {grace_s:g} s (control.grace_s); {last}")

    def _all_done(self, done: Done) -> None:
        if done.finished:
            self._end("finished", 0, "target reached", done)
        else:
            exit_code = self._stop_exit_code if self._stop_exit_code is not None else EXIT_SIGTERM
            self._end("stopped", exit_code, self.feed.state.reason, done)

    def _end(self, phase: RunPhase, exit_code: int, reason: str, done: Done | None = None) -> None:
        if self._ended is None or self._ended.done():
            return
        sha256 = done.weights_sha256 if done is not None else ""
        step = done.step if done is not None else self.feed.state.step
        words = safe_line(reason)
        self._ended.set_result(End(phase=phase, step=step, exit_code=exit_code, weights_sha256=sha256, reason=words))

    def _enter(self, phase: RunPhase, reason: str = "") -> None:
        self.publish(Phase(phase=phase, reason=safe_line(reason), step=self.feed.state.step))
        self._update_info(phase=phase)

    def _publish_status(self, command: Command, status: CommandState, step: int = -1) -> None:
        self.publish(status_of(command, status, step))

    def _update_info(self, *, phase: RunPhase) -> None:
        self.info = replace(self.info, phase=phase)
        try:
            self._folder.write_info(self.info)
        except OSError as error:
            self._record_failing(f"run.json cannot be written: {error.strerror}")

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
