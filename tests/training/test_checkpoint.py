"""Checkpoints: whole or not there, verified to the byte, pruned without touching what people named."""

import json
from pathlib import Path

import pytest
import torch

from plt_tui.errors import StorageError
from plt_tui.protocol.manifest import MANIFEST, MODEL, OPTIMIZER, STATE, verify
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot
from plt_tui.weights.digest import weights_sha256


def snapshot(step: int, name: str = "") -> Snapshot:
    """Small tensors that depend on `step`."""
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(4, 3, generator=generator), "b": torch.randn(5, generator=generator)}
    return Snapshot(
        step=step, model=weights, optimizer={"step/b": torch.tensor(3.0)}, state={"step": step, "sample_index": 7}, name=name
    )


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    """Tensors, state and name survive a round trip exactly."""
    before = snapshot(12, "best")
    folder, manifest = checkpoint.write(tmp_path, before)
    after = checkpoint.read(folder)
    assert folder.name == "step-00000012"
    assert sorted(path.name for path in folder.iterdir()) == sorted([MODEL, OPTIMIZER, STATE, MANIFEST])
    assert all(torch.equal(after.model[name], before.model[name]) for name in before.model)
    assert torch.equal(after.optimizer["step/b"], before.optimizer["step/b"])
    assert (after.step, after.name, after.state) == (12, "best", {"step": 12, "sample_index": 7})
    assert manifest.weights_sha256 == weights_sha256(before.model)


def test_a_file_of_many_chunks_is_written_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written and hashed at once, the file and its hash are the same."""
    whole, manifest = checkpoint.write(tmp_path / "one", snapshot(3))
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 7)
    parts, in_parts = checkpoint.write(tmp_path / "many", snapshot(3))
    assert in_parts.files == manifest.files
    assert (parts / MODEL).read_bytes() == (whole / MODEL).read_bytes()


@pytest.mark.parametrize("victim", [MODEL, OPTIMIZER, STATE])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "zero"])
def test_a_damaged_file_is_named_and_the_one_before_is_taken(tmp_path: Path, victim: str, damage: str) -> None:
    """Every kind of damage to every file is found, names the file, and falls back to the older checkpoint."""
    checkpoint.write(tmp_path, snapshot(1))
    folder, _ = checkpoint.write(tmp_path, snapshot(2))
    path = folder / victim
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1 if damage == "flip" else 0
        if damage == "zero":
            content[:] = bytes(len(content))
        path.write_bytes(content[:-1] if damage == "truncate" else content)
    with pytest.raises(StorageError, match=victim):
        verify(folder)
    good, rejected = checkpoint.newest_good(tmp_path)
    assert good == tmp_path / "step-00000001"
    assert len(rejected) == 1
    assert victim in rejected[0]


def test_without_a_manifest_there_is_no_checkpoint(tmp_path: Path) -> None:
    """A folder with the right name but no manifest is passed over."""
    folder, _ = checkpoint.write(tmp_path, snapshot(5))
    (folder / MANIFEST).unlink()
    assert checkpoint.newest_good(tmp_path)[0] is None


def test_a_foreign_format_is_refused(tmp_path: Path) -> None:
    """A manifest of another format version is not guessed at."""
    folder, _ = checkpoint.write(tmp_path, snapshot(5))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(StorageError, match="format 99"):
        verify(folder)


def test_a_failed_save_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    """When the folder cannot be written the older checkpoint stays and no temporary is left."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="blocked"):
        checkpoint.write(blocked, snapshot(1))
    assert list(tmp_path.iterdir()) == [blocked]


def test_a_checkpoint_is_never_written_again(tmp_path: Path) -> None:
    """A second write of the same step is refused, and the first one stays whole."""
    folder, _ = checkpoint.write(tmp_path, snapshot(3))
    with pytest.raises(StorageError):
        checkpoint.write(tmp_path, snapshot(3, "again"))
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert verify(folder).name == ""


def test_a_name_is_given_without_touching_the_rest(tmp_path: Path) -> None:
    """Naming replaces the manifest only; the checkpoint still verifies."""
    folder, before = checkpoint.write(tmp_path, snapshot(3))
    with (folder / MANIFEST).open() as whoever_reads:
        after = checkpoint.give_name(folder, "best")
        assert json.load(whoever_reads)["name"] == ""
    assert (after.name, after.files) == ("best", before.files)
    assert verify(folder) == after
    assert len(list(folder.iterdir())) == 4


def test_pruning_counts_only_what_is_known_to_be_whole(tmp_path: Path) -> None:
    """Named checkpoints stay; one that is not known to be whole never pushes a good one out."""
    folders = {
        step: checkpoint.write(tmp_path, snapshot(step, name))[0] for step, name in [(1, "first"), (2, ""), (3, ""), (4, "")]
    }
    doubtful = checkpoint.write(tmp_path, snapshot(5))[0]
    checkpoint.prune(tmp_path, keep=2, good=set(folders.values()))
    assert checkpoint.find(tmp_path) == [doubtful, folders[4], folders[3], folders[1]]


def test_what_lies_after_a_chosen_checkpoint_is_set_aside(tmp_path: Path) -> None:
    """Later checkpoints keep their content under another name, and are never resumed or counted again."""
    folders = [checkpoint.write(tmp_path, snapshot(step))[0] for step in (1, 2, 3)]
    moved = checkpoint.set_aside(tmp_path, after_step=1)
    assert checkpoint.find(tmp_path) == [folders[0]]
    assert sorted(verify(path).step for path in moved) == [2, 3]
    assert all(path.name.startswith("step-0000000") for path in moved)


@pytest.mark.parametrize("files", [{}, {MODEL: {"bytes": 0, "sha256": ""}}])
def test_a_manifest_must_vouch_for_every_file(tmp_path: Path, files: dict[str, object]) -> None:
    """A manifest that leaves a file out is not believed."""
    folder, _ = checkpoint.write(tmp_path, snapshot(5))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    with pytest.raises(StorageError, match="vouch"):
        verify(folder)


def test_swapped_weights_are_found_while_reading(tmp_path: Path) -> None:
    """Reading compares the weights with the manifest's hash of them, also without `verify`."""
    folder, _ = checkpoint.write(tmp_path, snapshot(5))
    other, _ = checkpoint.write(tmp_path, snapshot(6))
    (other / MODEL).replace(folder / MODEL)
    with pytest.raises(StorageError, match="not the weights that were saved"):
        checkpoint.read(folder)


def test_leftovers_of_killed_saves_are_cleared(tmp_path: Path) -> None:
    """Temporary folders go, checkpoints stay."""
    checkpoint.write(tmp_path, snapshot(1))
    (tmp_path / ".tmp-00000002-abcd").mkdir()
    checkpoint.clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_weights_hash_sees_names_shapes_types_and_bits() -> None:
    """Any change to a tensor, its name, shape or type changes the hash; the order of insertion does not."""
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    same = {"b": torch.ones(1), "a": torch.zeros(2, 3)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "c": torch.ones(1)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(1)},
        {"a": -torch.zeros(2, 3), "b": torch.ones(1)},
    ]
    digest = weights_sha256(base)
    assert weights_sha256(same) == digest
    assert all(weights_sha256(other) != digest for other in others)
