"""Trained runs for the commands that use one: made once, in this process, and a few milliseconds a step."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from plt_tui.config.load import resolve, to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.config.sources import options_layer
from plt_tui.control.folder import RunFolder
from plt_tui.plugins import Plugins
from tests.cli.commands import Call, caller

TEXT = "the quick brown fox jumps over the lazy dog; a naïve café was là.\n" * 60
TINY = (
    "data.context=16",
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "train.batch_size=4",
    "train.steps=4",
    "optim.warmup=0",
    "eval.batches=3",
    "sample.tokens=12",
    "sample.prompt=the fox ",
    "sample.temperature=1.0",
    "parallel.device=cpu",
)

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command as a shell does."""
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the text as `text.txt`, and token ids below 300 as `ids.bin`."""
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    np.arange(2000, dtype=np.uint16).__mod__(300).astype(np.uint16).tofile(folder / "ids.bin")
    return folder


def config_of(*sets: str) -> RunConfig:
    """A configuration from `--set` texts."""
    return resolve([options_layer((), sets)]).config


@pytest.fixture(scope="session")
def make_run(corpora: Path) -> Iterator[MakeRun]:
    """`make_run(folder, *sets, plugins=())`: a run folder with checkpoints of steps 2 and 4, trained here.

    torch gets one thread as long as it is there: two suffer on a busy machine.
    """
    import torch

    def make(folder: Path, *sets: str, plugins: tuple[str, ...] = ()) -> RunFolder:
        from plt_tui.training.trainer import Trainer

        config = config_of(f"data.train={corpora / 'text.txt'}", *TINY, *sets)
        run = RunFolder(folder)
        run.create(to_toml(config))
        with Trainer(config, plugins=Plugins(plugins)) as trainer:
            for _ in range(2):
                trainer.train_step()
                trainer.train_step()
                trainer.save_checkpoint(run.checkpoints)
        return run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def byte_run(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on bytes. Only to be read."""
    return make_run(tmp_path_factory.mktemp("runs") / "bytes")


@pytest.fixture(scope="session")
def char_run(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on characters. Only to be read."""
    return make_run(tmp_path_factory.mktemp("runs") / "chars", "data.tokenizer=char")


@pytest.fixture(scope="session")
def id_run(make_run: MakeRun, corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on ids without text. Only to be read."""
    return make_run(tmp_path_factory.mktemp("runs") / "ids", f"data.train={corpora / 'ids.bin'}", "data.vocab_size=300")
