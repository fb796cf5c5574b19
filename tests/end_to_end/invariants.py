"""What must be true of a run after any fault: the six invariants of docs/RELIABILITY.md, read from what it left on disk.

    1  every loss and every saved weight has the bits of a run that nothing was done to
    2  every checkpoint that was reported is there and whole, unless newer ones have taken its place
    3  no process, lock, socket, shared memory or half-written file is left
    4  the exit code is the record's last word, and what `show` prints
    5  the steps run from 1 to the last without a gap or a repeat
    6  every armed failpoint has fired

Injects nothing. A run whose hub was killed is checked by the same function, with the signal as its exit code.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plt_tui.config.load import from_toml
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.meeting import PREFIX, Meeting
from plt_tui.control.record import read_feed, read_overview
from plt_tui.control.summary import summary
from plt_tui.protocol.events import Checkpoint, CommandStatus, End
from plt_tui.protocol.manifest import is_whole, verify
from tests.end_to_end.runs import Line, failpoint_folder, processes_of, wait_until

GONE_S = 5.0
"""How long what belongs to a run may outlive its hub."""
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A run that nothing was done to: its losses by step, and the hashes of its weights where they are known."""

    losses: dict[int, float]
    weights: dict[int, str]


def reference_of(folder: Path, name: str) -> Reference:
    """The reference that the finished run `name` is."""
    feed = read_feed(RunFolder(folder / "runs" / name))
    return Reference(losses=_losses(feed), weights=_weights(feed))


def assert_sound(
    folder: Path,
    name: str,
    reference: Reference | None,
    *,
    exit_code: int,
    failpoints: Collection[str] = (),
    told: Sequence[Line] = (),
) -> Feed:
    """Assert the six invariants of the run `name` under `folder`, whose process ended with `exit_code`; returns its record.

    reference: None for a run that trains until somebody stops it, of which no other one has computed the steps.
    exit_code: of the process; negative, the signal that killed the hub. failpoints: those that must have fired. told: lines
    that a client has read; what they say must be in the record.
    """
    run = RunFolder(folder / "runs" / name)
    _assert_nothing_left(folder, run, was_killed=exit_code < 0)
    feed = read_feed(run)
    if reference is not None:
        _assert_same_bits(feed, reference)
    _assert_saved(run, feed)
    _assert_exit_code(run, feed, exit_code)
    _assert_no_gap(feed)
    _assert_told(feed, told)
    assert _armed(folder, name) == set()
    assert set(failpoints) <= {path.stem for path in failpoint_folder(folder, name).glob("*.fired")}
    return feed


def _losses(feed: Feed) -> dict[int, float]:
    columns = feed.history.columns
    return dict(zip(map(int, columns["step"]), columns["loss"], strict=True))


def _weights(feed: Feed) -> dict[int, str]:
    """The weights' hash after every step that was saved, and after the last one of a session that knew it."""
    saved = {event.step: event.weights_sha256 for event in feed.events if isinstance(event, Checkpoint)}
    return saved | {
        event.step: event.weights_sha256 for event in feed.events if isinstance(event, End) and event.weights_sha256
    }


def _assert_same_bits(feed: Feed, reference: Reference) -> None:
    losses, weights = _losses(feed), _weights(feed)
    assert losses == {step: reference.losses[step] for step in losses}
    known = weights.keys() & reference.weights.keys()
    assert {step: weights[step] for step in known} == {step: reference.weights[step] for step in known}
    if feed.state.phase == "finished":
        assert feed.state.step in known


def _assert_saved(run: RunFolder, feed: Feed) -> None:
    reported = {event.path for event in feed.events if isinstance(event, Checkpoint)}
    keep = from_toml(run.config.read_text()).checkpoint.keep
    on_disk = {path.name for path in run.checkpoints.glob("step-*") if is_whole(path)}
    for path in reported:
        if (run.path / path).exists():
            verify(run.path / path)
        else:
            newer = [name for name in on_disk if name > Path(path).name]
            assert len(newer) >= keep, f"{path} was reported, and is gone without {keep} newer ones: {sorted(on_disk)}"


def _assert_nothing_left(folder: Path, run: RunFolder, *, was_killed: bool) -> None:
    wait_until(lambda: not processes_of(folder), GONE_S)
    assert not run.is_live()
    info = run.read_info()
    assert info is not None
    assert _nobody_listens(Path(info.socket))
    began = run.config.stat().st_mtime
    others = [path for path in SHARED_MEMORY.glob(f"{PREFIX}*") if not path.name.startswith(Meeting(run.path).prefix)]
    left = {path for path in SHARED_MEMORY.glob("*") if path not in others and _is_newer(path, began)}
    with suppress(AssertionError):  # the next line names what is left
        wait_until(lambda: not _unused(left), GONE_S)
    unused = _unused(left)
    assert not unused, f"left: {', '.join(map(str, unused))}"
    if not was_killed:
        assert not Path(info.socket).exists()
        assert [path.name for path in run.path.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"] == []


def _unused(paths: set[Path]) -> set[Path]:
    used = _mapped()
    return {path for path in paths if (inode := _inode(path)) and inode not in used}


def _is_newer(path: Path, time_s: float) -> bool:
    """True for a file: the folders there are those of other tests."""
    with suppress(FileNotFoundError):
        return path.is_file() and path.stat().st_mtime > time_s
    return False


def _inode(path: Path) -> int:
    """0 where there is none any more."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino
    return 0


def _mapped() -> set[int]:
    """Inodes of the shared memory that any process has mapped: other runs of this machine come and go.

    Not names: whoever makes a semaphore has it mapped under another one, which it was made by and which is deleted.
    """
    inodes = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            rows = (line.split(maxsplit=5) for line in maps.read_text().splitlines() if str(SHARED_MEMORY) in line)
            inodes |= {int(row[4]) for row in rows}
    return inodes


def _nobody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) != 0


def _assert_exit_code(run: RunFolder, feed: Feed, exit_code: int) -> None:
    state, shown = feed.state, summary(read_overview(run), run.name)
    assert shown["step"] == state.step
    if exit_code < 0:
        assert not state.is_over
        assert shown["exit_code"] is None
        assert f"run --resume auto --name {run.name}" in shown["reason"]
        return
    last = feed.events[-1]
    assert isinstance(last, End), last
    assert (last.exit_code, shown["exit_code"], shown["state"]) == (exit_code, exit_code, last.phase)


def _assert_no_gap(feed: Feed) -> None:
    steps = list(_losses(feed))
    assert steps == list(range(1, len(steps) + 1))
    assert feed.state.step == len(steps)


def _assert_told(feed: Feed, told: Sequence[Line]) -> None:
    """Nothing was said to a client that the record does not hold."""
    saved = {(event.step, event.path) for event in feed.events if isinstance(event, Checkpoint)}
    applied = {event.id for event in feed.events if isinstance(event, CommandStatus) and event.status == "applied"}
    assert {(line["step"], line["path"]) for line in told if line["kind"] == "checkpoint"} <= saved
    assert {line["id"] for line in told if line["kind"] == "command" and line["status"] == "applied"} <= applied


def _armed(folder: Path, name: str) -> set[str]:
    return {path.name for path in failpoint_folder(folder, name).glob("*") if path.suffix != ".fired"}
