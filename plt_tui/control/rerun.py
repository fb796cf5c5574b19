"""Steps computed by fresh processes and recorded nowhere: what a replay and the proof of a resume are made of.

The ranks work in a folder of their own, take no commands, and are not started again when they fail. Invariant: when `compute`
is left, by whatever way, none of its ranks is alive.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plt_tui.config.edits import Edit, edits_to
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.attempt import Attempt
from plt_tui.control.folder import RunFolder
from plt_tui.control.meeting import Meeting
from plt_tui.control.placement import Placement, placed
from plt_tui.control.restart import where
from plt_tui.errors import PltTuiError, RankFailed, StorageError, by_exit_code
from plt_tui.protocol.events import Done, Event, Failed, Step
from plt_tui.protocol.manifest import is_whole, read_manifest
from plt_tui.protocol.rank import RankSpec

RERUN_ENTRY = "plt_tui.training.rerun:main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Steps to compute."""

    config: RunConfig
    placement: Placement
    until: int
    """The last step."""
    edits: Sequence[Edit] = ()
    resume: str = "never"
    """Where to begin: "never" is step 0, else the path of a checkpoint, which is only read."""
    save_every: int = 0
    """Steps between the checkpoints that are written into the ranks' folder; 0: none."""
    plugins: Sequence[str] = ()
    entry: str = RERUN_ENTRY


async def compute(job: Job, folder: RunFolder, hear: Callable[[Event], bool]) -> Done | None:
    """Let fresh ranks compute `job` in `folder`, which is theirs alone.

    hear: told everything that the ranks say; answers False once it has heard enough. Returns rank 0's last word, None when
    `hear` had enough before it. Call from the main thread.

    Raises: what made a rank fail, under the error class of its exit code.
    """
    owner = _Owner()
    meeting = Meeting(folder.path)
    attempt = Attempt(folder, owner, control=job.config.control, step=lambda: owner.step, spawn=owner.spawn)
    try:
        attempt.start(_specs(job, folder, str(meeting.fresh())))
        while True:
            event = await owner.said.get()
            if isinstance(event, Failed):
                raise _error(event)
            if isinstance(event, Done):
                return event
            if not hear(event):
                return None
    finally:
        await attempt.kill()
        meeting.clear()
        for task in owner.tasks:
            task.cancel()


def newest_whole(checkpoints: Mapping[int, Path], weights: Mapping[int, str] | None = None) -> int:
    """The newest step of which a checkpoint has every byte that its manifest vouches for; 0 for none.

    weights: the hashes that its weights must have, by step; None: any.
    """
    for step, folder in sorted(checkpoints.items(), reverse=True):
        if (weights is None or _weights(folder) == weights.get(step)) and is_whole(folder):
            return step
    return 0


def _weights(folder: Path) -> str:
    """The hash of the weights that `folder` says it holds; empty when it says nothing."""
    try:
        return read_manifest(folder).weights_sha256
    except StorageError:
        return ""


def _specs(job: Job, folder: RunFolder, meeting_file: str) -> list[RankSpec]:
    saving = job.config.checkpoint.model_copy(update={"dir": "", "every": job.save_every})
    folder.create(to_toml(job.config.model_copy(update={"checkpoint": saving})))
    told = RankSpec(
        entry=job.entry,
        run_dir=str(folder.path),
        meeting_file=meeting_file,
        hub_pid=os.getpid(),
        resume=job.resume,
        edits=edits_to(job.edits),
        until=job.until,
        plugins=tuple(job.plugins),
    )
    return placed(told, job.placement)


class _Owner:
    """Keeps what the ranks of one attempt say, until it is asked for. Event loop only."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Event] = asyncio.Queue()
        self.step = 0
        """The newest completed step."""
        self.tasks: set[asyncio.Task[None]] = set()

    def on_event(self, event: Event) -> None:
        """A rank said something that is no end."""
        if isinstance(event, Step):
            self.step = event.step
        self.said.put_nowait(event)

    def on_failed(self, cause: Failed) -> None:
        """A rank failed."""
        self.said.put_nowait(cause)

    def on_done(self, done: Done) -> None:
        """All ranks are done."""
        self.said.put_nowait(done)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Keep a task until it is over."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def _error(cause: Failed) -> PltTuiError:
    """What a user reads; the logs go with the folder, so a failure that nobody foresaw brings its last lines along."""
    if cause.exit_code != RankFailed.exit_code:
        return by_exit_code(cause.exit_code, cause.message)
    details = cause.traceback or "\n".join(cause.log_tail)
    return RankFailed("\n".join(filter(None, [f"{where(cause)}: {cause.message}", details])))
