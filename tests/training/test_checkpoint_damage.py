"""Checkpoints that were damaged where they lay: refused with the file's name, passed over for a good one, never deleted."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.errors import StorageError
from plt_tui.protocol.manifest import (
    FORMAT,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Manifest,
    folder_name,
    manifest_at,
    read_manifest,
    step_of,
    to_json,
    verify,
)
from plt_tui.training import checkpoint
from plt_tui.training.resume import choose, leave_others
from tests.training.crashing_saves import snapshot

FILES = (MODEL, OPTIMIZER, STATE, MANIFEST)
STEPS = (10, 20, 30)
PAGE_BYTES = 4096
Op = Callable[[Path], None]
"""Damages a folder of checkpoints."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good checkpoints."""
    root = tmp_path_factory.mktemp("template") / "checkpoints"
    for step in STEPS:
        checkpoint.write(root, snapshot(step))
    return root


@contextmanager
def copied(template: Path) -> Iterator[Path]:
    """A copy of it, for one example."""
    with tempfile.TemporaryDirectory() as folder:
        yield shutil.copytree(template, Path(folder) / "checkpoints")


def swap(one: Path, other: Path) -> None:
    """Exchange two files or folders."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def edited(path: Path, edit: Callable[[bytearray], None]) -> None:
    """Change the content of a file."""
    content = bytearray(path.read_bytes())
    edit(content)
    path.write_bytes(content)


@st.composite
def damages(draw: st.DrawFn) -> Op:
    """One thing that disks, people and other programs do to a file or a folder."""
    folder = folder_name(draw(st.sampled_from(STEPS)))
    other = folder_name(draw(st.sampled_from(STEPS)))
    file, another = draw(st.permutations(FILES))[:2]
    at = draw(st.integers(0, 1 << 20))
    bit = draw(st.integers(0, 7))
    garbage = draw(st.sampled_from([b"", b"[]", b"null", b"{", b'{"format": 1}', b"\xff\xfe", b"[" * 100_000, b"1" * 5000]))

    def flip(content: bytearray) -> None:
        content[at % len(content)] ^= 1 << bit

    def cut(content: bytearray) -> None:
        del content[at % len(content) :]

    def zero(content: bytearray) -> None:
        start = at % len(content) // PAGE_BYTES * PAGE_BYTES
        content[start : start + PAGE_BYTES] = bytes(len(content[start : start + PAGE_BYTES]))

    def rename(root: Path) -> None:
        (root / folder).rename(root / folder_name(at))

    def forget(root: Path) -> None:
        shutil.rmtree(root / folder)
        (root / folder).write_bytes(garbage)

    ops: dict[str, Op] = {
        "flip": lambda root: edited(root / folder / file, flip),
        "cut": lambda root: edited(root / folder / file, cut),
        "zero": lambda root: edited(root / folder / file, zero),
        "delete": lambda root: (root / folder / file).unlink(),
        "swap inside": lambda root: swap(root / folder / file, root / folder / another),
        "swap between": lambda root: swap(root / folder / file, root / other / file) if folder != other else None,
        "swap folders": lambda root: swap(root / folder, root / other) if folder != other else None,
        "rename": rename,
        "foreign": lambda root: edited(root / folder / MANIFEST, lambda content: content.__setitem__(slice(None), garbage)),
        "another's": lambda root: (root / folder / MANIFEST).write_bytes((root / other / MANIFEST).read_bytes()),
        "no folder": forget,
    }
    name = draw(st.sampled_from(sorted(ops)))
    return ops[name]


def files_of(folder: Path) -> dict[str, object]:
    """Everything in a folder; of a manifest what it says."""
    files: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
    with suppress(StorageError):
        files[MANIFEST] = manifest_at(folder / MANIFEST)
    return files


def inventory(root: Path) -> Counter[str]:
    """All contents under `root`, whatever they are called."""
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file())


@settings(max_examples=80)
@given(ops=st.lists(damages(), min_size=1, max_size=2))
def test_whatever_is_damaged_the_newest_good_one_is_taken_and_nothing_is_deleted(template: Path, ops: list[Op]) -> None:
    """One or two accidents: each bad one is named with its file, renamed, and gives its place to a new save."""
    good = {step: files_of(template / folder_name(step)) for step in STEPS}
    with copied(template) as root:
        for op in ops:
            with suppress(OSError, ZeroDivisionError):  # the first one left nothing there to damage
                op(root)
        before = inventory(root)
        found = {step_of(folder): files_of(folder) for folder in checkpoint.find(root)}
        expected = max((step for step in STEPS if found.get(step) == good[step]), default=-1)
        chosen, reasons = checkpoint.newest_good(root)
        assert chosen == (root / folder_name(expected) if expected > 0 else None)
        bad = sorted((step for step in found if step > expected), reverse=True)
        assert len(reasons) == len(bad)
        for step, reason in zip(bad, reasons, strict=True):
            hurt = [name for name in FILES if name not in found[step] or found[step][name] != good.get(step, {}).get(name)]
            assert any(str(root / folder_name(step) / name) in reason for name in hurt), reason
            with pytest.raises(StorageError, match=folder_name(step)):  # who names a bad one gets no other one
                choose(str(root / folder_name(step)), root)
        assert [step_of(folder) for folder in checkpoint.find(root)] == sorted(found, reverse=True)

        assert choose("auto", root) == chosen
        leave_others(chosen, root)
        assert max(map(step_of, checkpoint.find(root)), default=-1) == expected
        assert inventory(root) == before
        assert len(list(root.glob("*.aside-*"))) == len(bad)
        for step in (step for step in STEPS if step > expected):
            checkpoint.write(root, snapshot(step))
        assert checkpoint.newest_good(root) == (root / folder_name(STEPS[-1]), [])


def test_no_bit_of_a_manifest_can_change_unnoticed(template: Path, tmp_path: Path) -> None:
    """Each of them, also those that no file depends on, such as a name's, which keeps a checkpoint from being pruned."""
    path = tmp_path / MANIFEST
    path.write_bytes(to_json(replace(read_manifest(template / folder_name(10)), name="best", written_at=1.5)))
    content = path.read_bytes()
    with path.open(
        "r+b", buffering=0
    ) as file:  # in place: some systems write a file that was cut to nothing to the disk at once
        for at, bit in itertools.product(range(len(content)), range(8)):
            os.pwrite(file.fileno(), bytes([content[at] ^ 1 << bit]), at)
            with pytest.raises(StorageError):
                manifest_at(path)
            os.pwrite(file.fileno(), content[at : at + 1], at)
    assert manifest_at(path).name == "best"


def test_a_folder_of_another_step_is_refused(template: Path, tmp_path: Path) -> None:
    """All its files are as its manifest says, but they are not the state that its name promises."""
    (template / folder_name(10)).rename(template / "moved")
    root = shutil.copytree(template, tmp_path / "checkpoints")
    (template / "moved").rename(template / folder_name(10))
    (root / "moved").rename(root / folder_name(40))
    with pytest.raises(StorageError, match=r"step-00000040/manifest\.json: of step 10"):
        verify(root / folder_name(40))
    assert choose("auto", root) == root / folder_name(30)


@pytest.mark.parametrize("name", ["step-000000030", "step-0000000٣", "step-30", "step-00000030 ", "step-00000030.aside-1"])
def test_only_the_exact_name_of_a_step_is_a_checkpoint(template: Path, tmp_path: Path, name: str) -> None:
    """A name that merely reads as one cannot send a resume to another folder."""
    root = shutil.copytree(template, tmp_path / "checkpoints")
    (root / folder_name(30)).rename(root / name)
    assert step_of(root / name) == -1
    assert choose("auto", root) == root / folder_name(20)


def test_a_link_in_the_place_of_a_checkpoint_is_none(template: Path, tmp_path: Path) -> None:
    """It is passed over, and those of the run stay where they are: a start once took it for another's and set all aside."""
    root = shutil.copytree(template, tmp_path / "checkpoints")
    (root / folder_name(30)).rename(tmp_path / "moved")
    (root / folder_name(30)).symlink_to(tmp_path / "moved", target_is_directory=True)
    assert choose("auto", root, known_step=30) == root / folder_name(20)
    assert checkpoint.find(root) == [root / folder_name(20), root / folder_name(10)]


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "a later format": ({"format": 99, "shards": 7}, "format 99, but this version reads format 1"),
    "a format that is no number": ({"format": "\x1b]0;x\x07"}, r"format \\x1b]0;x\\x07, but"),
    "a field too many": ({"extra": 1}, "fields are not those of format 1"),
    "a step that is no number": ({"step": "10"}, "fields are not those of format 1"),
    "files that are no table": ({"files": []}, "fields are not those of format 1"),
    "no size": ({"files": {key: {"sha256": ""} for key in (MODEL, OPTIMIZER, STATE)}}, "must vouch for"),
    "another name": ({"name": "best"}, "content has changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_is_not_ours_is_refused_in_words(template: Path, tmp_path: Path, change: str) -> None:
    """Whoever wrote it, the file is named, and what it says does not reach a terminal unfiltered."""
    fields, message = CHANGES[change]
    folder = shutil.copytree(template / folder_name(10), tmp_path / folder_name(10))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **fields}))
    with pytest.raises(StorageError, match=message) as refused:
        read_manifest(folder)
    assert str(folder / MANIFEST) in str(refused.value)


def test_a_checkpoint_of_the_first_version_is_read(template: Path, tmp_path: Path) -> None:
    """Its manifest has no hash of its own."""
    folder = shutil.copytree(template / folder_name(10), tmp_path / folder_name(10))
    (folder / MANIFEST).write_text(json.dumps(asdict(read_manifest(folder))))
    assert verify(folder).format == FORMAT
    assert checkpoint.give_name(folder, "old") == verify(folder)


@pytest.mark.parametrize("file", [OPTIMIZER, STATE, MODEL])
def test_reading_alone_finds_every_damage(template: Path, tmp_path: Path, file: str) -> None:
    """Also without `verify`, as a rank reads that did not choose."""
    folder = shutil.copytree(template / folder_name(10), tmp_path / folder_name(10))
    edited(folder / file, lambda content: content.__setitem__(-2, content[-2] ^ 1))
    with pytest.raises(StorageError, match=file):
        checkpoint.read(folder)


def test_pruning_leaves_alone_what_may_have_had_a_name(template: Path, tmp_path: Path) -> None:
    """A manifest that cannot be read does not say that the checkpoint had none."""
    root = shutil.copytree(template, tmp_path / "checkpoints")
    checkpoint.give_name(root / folder_name(10), "best")
    edited(root / folder_name(10) / MANIFEST, lambda content: content.__setitem__(40, 0))
    checkpoint.prune(root, 1, checkpoint.find(root))
    assert [step_of(folder) for folder in checkpoint.find(root)] == [30, 10]


def test_a_manifest_that_cannot_be_read_keeps_nothing(template: Path, tmp_path: Path) -> None:
    """It does not count as one of those that are kept, even if it was whole once."""
    root = shutil.copytree(template, tmp_path / "checkpoints")
    known = checkpoint.find(root)
    (root / folder_name(30) / MANIFEST).write_bytes(b"")
    checkpoint.prune(root, 1, known)
    assert [step_of(folder) for folder in checkpoint.find(root)] == [30, 20]


def test_a_manifest_survives_its_file(template: Path, tmp_path: Path) -> None:
    """Whatever a person calls a checkpoint, what is read is what was written."""
    for name in ("", "best", "naïve ✓", '"\\\n', "\ud800"):
        manifest: Manifest = replace(read_manifest(template / folder_name(10)), name=name)
        (tmp_path / MANIFEST).write_bytes(to_json(manifest))
        assert read_manifest(tmp_path) == manifest
