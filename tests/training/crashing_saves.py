"""A process that imports torch once, and forks a child for every trial that a child may not survive.

    python -m tests.training.crashing_saves      a trial per line of stdin, what became of it per line of stdout, both JSON

Also what those trials do, for tests that let the same happen in their own process. Invariant: one child at a time, and none is
left when a trial is answered.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from plt_tui import failpoints
from plt_tui.protocol.events import Checkpoint
from plt_tui.protocol.manifest import folder_name, step_of, verify
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot
from plt_tui.training.resume import choose, leave_others
from plt_tui.training.saver import Outcome, Saver

KEEP = 2
NAME_EVERY = 7
Say = Callable[[str], None]


def snapshot(step: int, name: str = "") -> Snapshot:
    """Some 100 KB of numbers that belong to this step alone."""
    generator = torch.Generator().manual_seed(step)
    tensors = [torch.randn(8192, generator=generator) for _ in range(3)]
    return Snapshot(
        step=step, model={"w": tensors[0]}, optimizer={"m": tensors[1], "v": tensors[2]}, state={"step": step}, name=name
    )


def prepare(root: Path) -> None:
    """Three checkpoints as a run leaves them: 1, which has a name, 2 and 3."""
    for step, name in [(1, "first"), (2, ""), (3, "")]:
        checkpoint.write(root, snapshot(step, name))


def saver_of(root: Path, say: Say = lambda _: None, *, keep: int = KEEP) -> Saver:
    """A saver as a session that resumed from the newest checkpoint has it."""
    newest, _ = checkpoint.newest_good(root)
    return Saver(root, root.parent, keep, lambda outcome: say(told(outcome)), resumed_from=newest)


def told(outcome: Outcome) -> str:
    """An outcome as one line."""
    return f"saved {outcome.step} {outcome.name}" if isinstance(outcome, Checkpoint) else f"failed {outcome.reason}"


def save(root: Path, say: Say) -> None:
    """Save step 4, which prunes step 2; whoever lies in its place gives way."""
    saver = Saver(root, root.parent, KEEP, lambda outcome: say(told(outcome)), resumed_from=root / folder_name(3))
    _save(saver, 4)


def name(root: Path, say: Say) -> None:
    """Give step 3 a name."""
    _save(saver_of(root, say), 3, "best")


def aside(root: Path, say: Say) -> None:
    """Leave all that comes after step 1."""
    checkpoint.set_aside(root, 1)
    say("left")


SCENES: Mapping[str, Callable[[Path, Say], None]] = {"save": save, "name": name, "aside": aside}
"""What is killed at each of its boundaries, beginning with what `prepare` leaves."""


def save_for_ever(root: Path, say: Say) -> None:
    """As a run that comes back by itself: resume from the newest checkpoint, save every step, and name one now and then."""
    resumed = choose("auto", root)
    leave_others(resumed, root)
    step = step_of(resumed) if resumed is not None else 0
    saver = Saver(root, root.parent, KEEP, lambda outcome: say(told(outcome)), resumed_from=resumed)
    while True:
        step += 1
        for given in ("", f"n{step}") if step % NAME_EVERY == 0 else ("",):
            _save(saver, step, given)


def files_at_most(root: Path, say: Say) -> None:
    """Save step 4 where no file may be longer than 10 000 bytes, then step 5 where it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    saver = saver_of(root, say)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    _save(saver, 4)
    say(_listed(root))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _save(saver, 5)


def small_disk(root: Path, say: Say) -> None:
    """Save on a disk that has room for three, on one that something else has filled, on a read-only one, and on a good one."""
    if not _mount_small(root, 400_000):
        return
    prepare(root)
    saver = saver_of(root, say, keep=9)
    for step in (4, 5, 6):
        _save(saver, step)
    shutil.rmtree(root / folder_name(5))
    ballast = root / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    _save(saver, 7)
    ballast.unlink()
    say(_listed(root))
    _mount_again(root, read_only=True)
    _save(saver, 8)
    _mount_again(root, read_only=False)
    _save(saver, 8)
    say(" ".join(folder.name for folder in checkpoint.find(root) if verify(folder)))


TRIALS: Mapping[str, Callable[[Path, Say], None]] = {
    **SCENES,
    "save_for_ever": save_for_ever,
    "files_at_most": files_at_most,
    "small_disk": small_disk,
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a trial."""

    code: int
    """Exit code, or the signal that ended it, negative."""
    said: list[str]


class Workshop:
    """The other side of this program."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # who has threads does not fork well
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **alone}
        )

    def attempt(self, trial: str, root: Path, *, points: Path | None = None, kill_after_s: float | None = None) -> Ended:
        """Let a child do `trial` with `root`. points: folder of armed failpoints; kill_after_s: kill it at that age."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([trial, str(root), str(points or ""), kill_after_s]), file=self._process.stdin, flush=True)
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the program."""
        self._process.communicate()


def main() -> None:
    """Do the trials that stdin asks for."""
    for line in sys.stdin:
        trial, root, points, kill_after_s = json.loads(line)
        ended = _forked(lambda say: _do(trial, Path(root), points, say), kill_after_s)  # noqa: B023  (called at once)
        print(json.dumps(asdict(ended)), flush=True)


def _forked(work: Callable[[Say], None], kill_after_s: float | None) -> Ended:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.write(writing, b"ready\n")
            work(lambda text: _write_line(writing, text))
            code = 0
        except BaseException:  # noqa: BLE001  (the border of the child)
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        pipe.readline()  # the time that a fork takes is no life
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(pid, signal.SIGKILL)
        said = pipe.read().splitlines()
    return Ended(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said=said)


def _do(trial: str, root: Path, points: str, say: Say) -> None:
    failpoints.FOLDER = points
    TRIALS[trial](root, say)


def _write_line(descriptor: int, text: str) -> None:
    os.write(descriptor, f"{text}\n".encode())


def _save(saver: Saver, step: int, name: str = "") -> None:
    saver.save(step, lambda: snapshot(step), name)
    saver.wait()


def _listed(root: Path) -> str:
    return " ".join(sorted(path.name for path in root.iterdir()))


def _mount_small(folder: Path, num_bytes: int) -> bool:
    """Put a small disk on `folder` that only this process sees; False where the machine does not permit it."""
    new_mounts, new_users, private = 0x00020000, 0x10000000, (1 << 18) | (1 << 14)
    libc = ctypes.CDLL(None)
    if sys.platform != "linux":
        return False
    if libc.unshare(new_mounts) and libc.unshare(new_mounts | new_users):
        return False
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(private), None):
        return False
    return not libc.mount(b"tmpfs", bytes(folder), b"tmpfs", ctypes.c_ulong(0), f"size={num_bytes}".encode())


def _mount_again(folder: Path, *, read_only: bool) -> None:
    remount = (1 << 5) | read_only
    assert not ctypes.CDLL(None).mount(b"tmpfs", bytes(folder), b"tmpfs", ctypes.c_ulong(remount), None)


if __name__ == "__main__":
    main()
