"""Promises of `plt-tui export` and `import`: a run's weights out, other weights in, and a word about what was made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from plt_tui.cli.weights import export, import_
from plt_tui.config.load import to_toml
from plt_tui.config.schema import ModelSection, RunConfig
from plt_tui.errors import StorageError, UsageError
from plt_tui.model.transformer import TransformerLM
from plt_tui.weights.digest import weights_sha256
from plt_tui.weights.read import load

GPT2 = ModelSection(
    layers=1, width=16, heads=2, norm="layernorm", position="learned", activation="gelu", qk_norm=False, tie_embeddings=True
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run, "first", with checkpoints of steps 5 and 20."""
    run = tmp_path / "runs" / "first"
    for step in (5, 20):
        folder = run / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        tensors = dict(TransformerLM(GPT2, vocab_size=257, context=8).named_parameters())
        tensors["norm.weight"] = torch.full((16,), float(step))
        save_file(tensors, folder / "model.safetensors")
        shape = {**GPT2.model_dump(exclude={"preset", "dropout"}), "context": 8, "vocab_size": 257}
        (folder / "state.json").write_text(json.dumps({"shape": shape, "tokenizer": {"kind": "byte"}}))
        (folder / "manifest.json").write_text(json.dumps({"weights_sha256": weights_sha256(tensors)}))
    (run / "config.toml").write_text(to_toml(RunConfig()))
    return tmp_path / "runs"


def test_a_run_is_exported_by_the_beginning_of_its_name(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest checkpoint, with the files and a note."""
    export("fir", tmp_path / "hf", form="hf", directory=runs)
    said = capsys.readouterr().out
    assert "config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json" in said
    assert "step-00000020" in said
    assert "note: GPT-2 has biases: they were written as zeros" in said
    assert load(tmp_path / "hf").tensors["norm.weight"][0] == 20


def test_a_chosen_step_and_a_path(runs: Path, tmp_path: Path) -> None:
    """Of the run by name, and the checkpoint's folder itself."""
    export("first", tmp_path / "a", step=5, directory=runs)
    assert load(tmp_path / "a").tensors["norm.weight"][0] == 5
    export(str(runs / "first" / "checkpoints" / "step-00000005"), tmp_path / "b", form="json", directory=runs)
    assert load(tmp_path / "b").tensors["norm.weight"][0] == 5


def test_a_run_wins_over_a_folder_of_the_same_name(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is a run's first of all."""
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path)
    export("first", Path("out"), directory=runs)
    assert load(tmp_path / "out").tensors["norm.weight"][0] == 20


@pytest.mark.parametrize("by", ["name", "path", "import"])
def test_a_damaged_newest_checkpoint_is_passed_over_aloud(
    by: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `generate` and `eval` do; the one that was asked for by its step is refused."""
    newest = runs / "first" / "checkpoints" / "step-00000020" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    if by == "import":
        import_(str(runs / "first"), tmp_path / "out")
    else:
        export("first" if by == "name" else str(runs / "first"), tmp_path / "out", directory=runs)
    assert load(tmp_path / "out").tensors["norm.weight"][0] == 5
    said = capsys.readouterr()
    assert "passed over: " in said.err
    assert "step-00000005" in said.out
    with pytest.raises(StorageError, match="step-00000020"):
        export("first", tmp_path / "again", step=20, directory=runs)
    assert not (tmp_path / "again").exists()


def test_a_configuration_beside_weights_makes_no_run_of_them(runs: Path, tmp_path: Path) -> None:
    """Where somebody began a config.toml in the folder of an export."""
    export("first", tmp_path / "out", directory=runs)
    (tmp_path / "out" / "config.toml").write_text(to_toml(RunConfig()))
    import_(str(tmp_path / "out"), tmp_path / "again")
    export(str(tmp_path / "out"), tmp_path / "third", directory=runs)
    assert load(tmp_path / "again").tensors["norm.weight"][0] == load(tmp_path / "third").tensors["norm.weight"][0] == 20


def test_an_export_is_imported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a folder that a run can start from, and the next command is printed."""
    export("first", tmp_path / "hf", form="hf", directory=runs)
    import_(str(tmp_path / "hf"), tmp_path / "ours")
    assert f'plt-tui run --set "train.init_from={tmp_path / "ours"}"' in capsys.readouterr().out
    assert load(tmp_path / "ours").tensors["norm.weight"][0] == 20


@pytest.mark.parametrize(
    ("source", "step", "said"),
    [
        ("second", None, "no run 'second' under"),
        ("nowhere/first", None, "nowhere/first: there is nothing"),
        ("first", 7, "--step 7: no such checkpoint of .*first; steps there: 5, 20"),
    ],
)
def test_what_is_not_there_is_named(source: str, step: int | None, said: str, runs: Path, tmp_path: Path) -> None:
    """With what there is, and nothing is written."""
    with pytest.raises(UsageError, match=said):
        export(source, tmp_path / "out", step=step, directory=runs)
    assert not (tmp_path / "out").exists()
