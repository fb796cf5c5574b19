"""Checkpoints through kills, power cuts, disks that are full, limited, broken, or lie: the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plt_tui import failpoints
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder, read_journal
from plt_tui.protocol.events import Alert
from plt_tui.protocol.manifest import MODEL, folder_name, is_whole, read_manifest, step_of, verify
from plt_tui.training import checkpoint
from plt_tui.weights.digest import weights_sha256
from tests.training.crashing_saves import KEEP, SCENES, Workshop, prepare, saver_of, snapshot
from tests.training.power_cuts import Disk

NUM_KILLS = 200
FIRST_LIFE_S = 0.5
SAVES_PER_LIFE = 2.0
"""That the longest lives have time for; how long that is, the lives before tell."""
KEPT = {"save": {1, 3}, "name": {1, 2, 3}, "aside": {1}}
"""Steps whose checkpoints are there at every instant of a scene."""
NEWEST = {"save": (3, 4), "name": (3,), "aside": (3, 1)}
"""The newest one before it, and after."""
DONE = {"save": [4, 3, 1], "name": [3, 2, 1], "aside": [1]}
"""Steps whose checkpoints are there after it, the newest first."""


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The process that forks a child per trial."""
    process = Workshop()
    yield process
    process.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every scene begins with."""
    root = tmp_path_factory.mktemp("template") / "checkpoints"
    prepare(root)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(template, tmp_path / "checkpoints")


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what a kill leaves depends on no sync, and a busy disk takes its time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def steps(root: Path) -> list[int]:
    """Steps whose checkpoints a reader finds, the newest first; each is whole and of its step."""
    folders = checkpoint.find(root)
    for folder in folders:
        assert verify(folder).weights_sha256 == weights_sha256(snapshot(step_of(folder)).model)
        assert checkpoint.read(folder).state == {"step": step_of(folder)}
    return [step_of(folder) for folder in folders]


def leftovers(root: Path) -> list[Path]:
    """What a save, a name or a deletion that was cut short leaves."""
    return list(root.rglob(".tmp-*"))


def boundaries(scene: str, root: Path) -> list[str]:
    """The failpoints that `scene` comes by, in order."""
    reached: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "reach", lambda *words: reached.append(".".join(map(str, words))))
        SCENES[scene](root, lambda _: None)
    return list(dict.fromkeys(reached))


def interrupt(patch: pytest.MonkeyPatch, point: str, act: Callable[[], None]) -> list[str]:
    """Let `act` happen in this process whenever `point` is reached; returns what grows with each time."""
    fired: list[str] = []

    def reach(*words: object) -> None:
        if ".".join(map(str, words)) == point:
            fired.append(point)
            act()

    patch.setattr(failpoints, "reach", reach)
    return fired


def fail(number: int) -> Callable[[], None]:
    """What a disk says that refuses."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_at_any_boundary_leaves_the_old_or_the_new_one(
    scene: str, template: Path, fast: Path, workshop: Workshop
) -> None:
    """Every point that the code comes by is found out, and killed at: all that is found is whole, and the next try works."""
    points = boundaries(scene, shutil.copytree(template, fast / "unhurt"))
    assert len(points) >= 2
    for point in points:
        root = shutil.copytree(template, fast / point / "checkpoints")
        armed = fast / point
        (armed / point).write_text("kill")
        assert workshop.attempt(scene, root, points=armed).code == -9, point
        assert (armed / f"{point}.fired").exists()
        assert KEPT[scene] <= set(steps(root)) <= {1, 2, 3, 4}, point
        assert max(steps(root)) in NEWEST[scene], point
        SCENES[scene](root, lambda _: None)
        assert steps(root) == DONE[scene], point
        checkpoint.clear_leftovers(root)
        assert not leftovers(root), point
        if scene == "name":
            assert read_manifest(root / folder_name(3)).name == "best"
        if scene == "aside":
            assert {path.name[:13] for path in root.glob("*.aside-*") if is_whole(path)} == {folder_name(2), folder_name(3)}


def test_killed_two_hundred_times_at_random_no_save_that_was_reported_is_lost(fast: Path, workshop: Workshop) -> None:
    """A run that saves all the time and comes back after each kill: what it reported is there, and it never goes back."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    lives = random.Random(seed)
    root = fast / "checkpoints"
    saved: set[int] = set()
    named: set[int] = set()
    lived_s = 0.0
    for _ in range(NUM_KILLS):
        life_s = lives.uniform(0, SAVES_PER_LIFE * lived_s / len(saved)) if saved else FIRST_LIFE_S
        ended = workshop.attempt("save_for_ever", root, kill_after_s=life_s)
        lived_s += life_s
        assert ended.code == -9
        for line in ended.said:
            word, step, name = line.split(" ")
            assert word == "saved", line
            saved.add(int(step))
            named |= {int(step)} if name else set()
        found = {step_of(folder) for folder in checkpoint.find(root)}  # with one, maybe, that nobody could be told of
        assert {*sorted(saved | found)[-KEEP:], *named} <= found
        assert all(is_whole(root / folder_name(step)) for step in sorted(found)[-KEEP - 2 :])
    assert len(saved) > NUM_KILLS / 4
    assert all(read_manifest(root / folder_name(step)).name == f"n{step}" for step in named)
    saver, newest = saver_of(root), steps(root)[0]
    saver.save(newest + 1, lambda: snapshot(newest + 1))
    saver.wait()
    unnamed = [step_of(folder) for folder in checkpoint.find(root) if not read_manifest(folder).name]
    assert unnamed == [newest + 1, newest][: len(unnamed)]  # kills before a deletion left more of them, and this saw to it
    assert not leftovers(root)


@pytest.mark.parametrize("scene", SCENES)
def test_a_power_cut_at_any_boundary_leaves_the_old_or_the_new_one(
    scene: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was not synced may be lost or not: all that is found is whole, and what had been reported is there."""
    disk_top = tmp_path / "disk"
    root = shutil.copytree(template, disk_top / "run" / "checkpoints")
    disk = Disk(disk_top, monkeypatch)
    dice = random.Random(7)
    cuts: list[str] = []
    names: set[str] = set()

    def cut(*words: object) -> set[int]:
        cuts.append(".".join(map(str, words)))
        all_found = set()
        for number, keeps_names in enumerate([lambda: True, lambda: False, *[lambda: dice.random() < 0.5] * 3]):
            image = disk.after_cut(tmp_path / f"{len(cuts)}-{number}", keeps_names)
            found = set(steps(image / "run" / "checkpoints"))
            assert KEPT[scene] <= found <= {1, 2, 3, 4}, cuts[-1]
            assert max(found) in NEWEST[scene], cuts[-1]
            all_found |= found
            names.add(read_manifest(image / "run" / "checkpoints" / folder_name(max(found))).name)
            shutil.rmtree(image)
        return all_found

    monkeypatch.setattr(failpoints, "reach", cut)
    SCENES[scene](root, lambda _: None)
    assert len(cuts) >= 2
    names.clear()
    assert cut("after it") == set(DONE[scene])
    assert names == {"save": {""}, "name": {"best"}, "aside": {"first"}}[scene]
    disk.close()


def test_a_power_cut_right_after_the_first_save_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the folders above it that were made for it are there."""
    top = tmp_path / "disk"
    top.mkdir()
    disk = Disk(top, monkeypatch)
    checkpoint.write(top / "runs" / "one" / "checkpoints", snapshot(5))
    assert steps(disk.after_cut(tmp_path / "image", lambda: False) / "runs" / "one" / "checkpoints") == [5]
    disk.close()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_power_cut_after_the_first_save_of_a_new_run_leaves_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """Others made the folders that the save found there: configuration, record and checkpoint are there all the same."""
    top = tmp_path / "disk"
    top.mkdir()
    disk = Disk(top, monkeypatch)
    run = RunFolder(top / "runs" / "one")
    run.path.mkdir(parents=True)  # by somebody who was killed before it was on disk
    root = top / "saves" / "one" if elsewhere else run.checkpoints
    if elsewhere:
        os.close(run.claim(root))
    run.create("[run]\n")
    with contextlib.closing(Recorder(run, 0, pytest.fail)) as recorder:
        recorder.record(Alert(topic="test", text="begun"))
        checkpoint.write(root, snapshot(5))
        recorder.sync()
        image = disk.after_cut(tmp_path / "image", lambda: False)
    found = RunFolder(image / "runs" / "one")
    assert steps(image / root.relative_to(top)) == [5]
    assert found.config.read_text() == "[run]\n"
    assert [event.kind for event in read_journal(found)] == ["alert"]
    assert found.metrics.exists()
    disk.close()


@pytest.mark.parametrize("scene", ["save", "name"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_at_any_boundary_costs_that_save_and_nothing_else(
    scene: str, number: int, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure names a file and the next action, nothing partial stays, and the next try works."""
    for point in boundaries(scene, shutil.copytree(template, tmp_path / "unhurt")):
        root = shutil.copytree(template, tmp_path / point)
        with pytest.MonkeyPatch.context() as patch:
            fired = interrupt(patch, point, fail(number))
            said: list[str] = []
            SCENES[scene](root, said.append)
        assert fired == [point]
        if not point.startswith("prune."):  # what cannot be deleted costs space, and no save
            (line,) = said
            assert line.startswith(f"failed {root / folder_name(4 if scene == 'save' else 3)}"), point
            assert os.strerror(number) in line
            assert "kernel's log" in line
            assert steps(root) == [3, 2, 1]
            assert not leftovers(root)
        SCENES[scene](root, said.append)
        assert steps(root) == DONE[scene]
        checkpoint.clear_leftovers(root)
        assert not leftovers(root)


def test_a_sync_that_fails_is_never_tried_again_with_the_same_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may drop what it could not write and say yes the second time: the save has failed, the next has new files."""
    fsync = os.fsync
    asked: list[int] = []

    def refuse_the_last(descriptor: int) -> None:
        asked.append(os.fstat(descriptor).st_ino)
        if len(asked) == turn:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_the_last)
    saver = saver_of(root)
    for turn in range(1, 7):  # three files, the manifest, the folder, the folder above
        asked.clear()
        saver.save(4, lambda: snapshot(4))
        saver.wait()
        assert "Input/output error" in saver.failure
        assert len(asked) == turn
        assert steps(root) == [3, 2, 1]
        assert not leftovers(root)
    turn = 0
    saver.save(4, lambda: snapshot(4))
    saver.wait()
    assert (saver.failure, steps(root)) == ("", [4, 3, 1])


@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_what_the_disk_does_not_give_back_as_it_was_written_is_no_checkpoint(
    damage: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that said yes and kept something else: the save fails, nobody finds it, and it makes no older one go."""

    def spoil() -> None:
        (file,) = root.glob(f".tmp-*/{MODEL}")
        content = bytearray(file.read_bytes())
        content[1000] ^= 16
        if damage == "lose":
            file.unlink()
        else:
            file.write_bytes(content if damage == "flip" else content[:-1])

    fired = interrupt(monkeypatch, "save.folder-synced", spoil)
    saver = saver_of(root)
    for _ in range(2):
        saver.save(4, lambda: snapshot(4))
        saver.wait()
        assert f"{root / folder_name(4) / MODEL}: " in saver.failure
        assert "does not give back what is written" in saver.failure
        assert not saver.has(4)
        assert steps(root) == [3, 2, 1]
        assert not leftovers(root)
    assert len(fired) == 2


def test_what_is_read_back_comes_from_the_disk_and_before_the_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file leaves the cache of the system once it is synced, and is compared before a reader could find it."""
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system cannot be told to forget what it has cached")
    order: list[str] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *wish: order.append("forget" if wish[3] == os.POSIX_FADV_DONTNEED else "?"))
    monkeypatch.setattr(failpoints, "reach", lambda *words: order.append(words[-1]))
    monkeypatch.setattr(checkpoint, "verify", lambda folder: order.append("compare") or verify(folder))
    checkpoint.write(root, snapshot(4))
    per_file = ["opened", "written", "synced", "forget"]
    assert order == ["save.folder-made", *per_file * 4, "save.folder-synced", "compare", *order[-3:]]
    assert order[-3:] == ["save.read-back", "save.renamed", "save.root-synced"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_a_folder_or_take_a_hint_can_be_saved_to(
    number: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network and FUSE mounts; their files are synced all the same, and a file that cannot be is no checkpoint."""
    fsync = os.fsync

    def refuse(descriptor: int, *_: int) -> None:
        if not no_file and not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return fsync(descriptor)
        raise OSError(number, os.strerror(number))

    no_file = False
    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: fail(number)(), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    for scene in SCENES:
        SCENES[scene](shutil.copytree(root, root.with_name(scene)), print)
        assert steps(root.with_name(scene)) == DONE[scene]
    no_file = True
    saver = saver_of(root)
    saver.save(4, lambda: snapshot(4))
    saver.wait()
    assert os.strerror(number) in saver.failure
    assert steps(root) == [3, 2, 1]


def full_until(patch: pytest.MonkeyPatch, gone: Path, number: int = errno.ENOSPC) -> None:
    """A disk without room as long as `gone` is there."""
    interrupt(patch, f"save.{MODEL}.written", lambda: fail(number)() if gone.exists() else None)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_where_room_is_short_the_oldest_gives_way_before_the_second_try(
    number: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the unnamed ones that are whole; the save succeeds, and nothing was reported in between."""
    full_until(monkeypatch, root / folder_name(2), number)
    said: list[str] = []
    saver = saver_of(root, said.append, keep=9)
    saver.save(4, lambda: snapshot(4))
    saver.wait()
    assert (said, steps(root)) == (["saved 4 "], [4, 3, 1])


def test_the_newest_good_one_never_gives_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that stays full the run keeps its last unnamed checkpoint and all named ones, and says what is wrong."""
    full_until(monkeypatch, root)
    saver = saver_of(root, keep=9)
    for step in (4, 5):
        saver.save(step, lambda: snapshot(step))  # noqa: B023
        saver.wait()
        assert steps(root) == [3, 1]
    assert saver.failure == f"{root / folder_name(5) / MODEL}: not saved: No space left on device; free some space there"


def test_a_damaged_one_counts_for_nothing_when_room_is_short(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does it give way, nor does it justify that a good one does."""
    (root / folder_name(3) / MODEL).write_bytes(b"")
    full_until(monkeypatch, root)
    saver = saver_of(root, keep=9)
    saver.save(4, lambda: snapshot(4))
    saver.wait()
    assert [step_of(folder) for folder in checkpoint.find(root)] == [3, 2, 1]


def test_none_gives_way_where_that_makes_too_little_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fills the disk faster than we do would get one checkpoint of ours after the other."""
    taken = shutil.disk_usage(root)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: taken)
    assert checkpoint.make_room(root, 10 * verify(root / folder_name(2)).bytes) is None
    assert steps(root) == [3, 2, 1]


def test_where_files_may_not_be_as_long_the_save_fails_and_the_next_tries_again(root: Path, workshop: Workshop) -> None:
    """A real limit of the system (`ulimit -f`), met while the file is written."""
    ended = workshop.attempt("files_at_most", root)
    assert ended.code == 0
    failed, left, saved = ended.said
    assert failed.startswith(f"failed {root / folder_name(4) / MODEL}: not saved: File too large")
    assert "ulimit -f" in failed
    assert left == "step-00000001 step-00000002 step-00000003"
    assert (saved, steps(root)) == ("saved 5 ", [5, 3, 1])


def test_on_a_small_disk_the_oldest_gives_way_and_the_alert_stands_until_it_can_be_written(
    tmp_path: Path, workshop: Workshop
) -> None:
    """A real disk of 400 kB, which holds three checkpoints."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    ended = workshop.attempt("small_disk", root)
    assert ended.code == 0
    if not ended.said:
        pytest.skip("this machine lets nobody mount a disk of their own; the tests above have the same faults without one")
    *given_way, failed, left, read_only, saved, kept = ended.said
    assert given_way == ["saved 4 ", "saved 5 ", "saved 6 "]
    assert failed.startswith(f"failed {root / folder_name(7)}")
    assert failed.endswith("No space left on device; free some space there")
    assert left == "step-00000001 step-00000006"
    assert read_only.startswith(f"failed {root / folder_name(8)}: not saved: Read-only file system; ")
    assert (saved, kept) == ("saved 8 ", "step-00000008 step-00000006 step-00000001")
