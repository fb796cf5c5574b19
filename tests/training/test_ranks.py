"""Several ranks in real processes: they add up to one, meet again, and share a group that is there already."""

import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed import TCPStore, Work, all_reduce

from plt_tui.config.schema import ParallelSection
from plt_tui.data.prepare import prepare
from plt_tui.errors import UsageError
from plt_tui.plugins import Plugins
from plt_tui.training import ranks as ranks_module
from plt_tui.training.ranks import PendingSum, Ranks, from_environment, leave
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny
from tests.training.processes import DEADLINE_S, run_two, two

STEPS = 4
TIMEOUT_S = 15
"""Of ranks that lose their peer: far more than a busy machine keeps one of them from a core."""
PADDED = ("optim.name=sgd", "optim.momentum=0.0", "train.grad_clip=0.0", "data.packing=best_fit", "parallel.device=cpu")
"""Plain gradient descent: unlike Adam's and clipped ones, its updates show a gradient that is too large or too small."""


def _rank(rank: int, body: Callable[[Path], None], port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0", GLOO_SOCKET_IFNAME="lo")
    body(folder)


def on_two_ranks(body: Callable[[Path], None], folder: Path) -> None:
    """Run `body(folder)` in two processes with torchrun's variables and, as there, a store that outlives their meetings."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    run_two(_rank, body, store.port, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a corpus of documents of many lengths, so that packed rows are padded; written before any rank reads it."""
    lines = [json.dumps({"text": "ab" * (number % 13 + 1)}) for number in range(300)]
    (tmp_path / "documents.jsonl").write_text("\n".join(lines))
    return tmp_path


def documents(folder: Path) -> str:
    """The setting that trains on the corpus of `folder`."""
    return f"data.train={folder / 'documents.jsonl'}"


def trained(trainer: Trainer) -> dict[str, Tensor]:
    """The rows that this rank saw in each step, the losses, the norms, and the weights at the end."""
    rows, losses, norms = [], [], []
    for _ in range(STEPS):
        batch = trainer.place.enter(trainer.edits, trainer.step + 1)
        rows += [trainer._micro_batch(batch, micro) for micro in range(batch.layout.accumulate)]
        trainer.accumulate()
        pending = trainer.ranks.post_sum([trainer.measure().loss])
        norms.append(trainer.update(trainer.hyper(trainer.step + 1)))
        losses.append(pending.wait()[0] / trainer.ranks.world_size)
    weights = {name: parameter.detach() for name, parameter in trainer.model.named_parameters()}
    return {"rows": torch.stack(rows), "losses": torch.tensor(losses), "norms": torch.tensor(norms), **weights}


def _half(folder: Path) -> None:
    with Trainer(tiny(*PADDED, documents(folder), "train.batch_size=2", "train.accumulate=2")) as trainer:
        save_file(trained(trainer), folder / f"rank{trainer.ranks.rank}.safetensors")


def test_one_rank_equals_two_with_half_the_batch_and_accumulation(folder: Path) -> None:
    """The same rows in the same order, and but for rounding the same losses, gradient norms and weights, padding and all."""
    with Trainer(tiny(*PADDED, documents(folder), "train.batch_size=8")) as trainer:
        alone = trained(trainer)
    assert (alone["rows"] == -1).any(dim=2).any()
    on_two_ranks(_half, folder)
    halves = [load_file(folder / f"rank{rank}.safetensors") for rank in range(2)]
    rows = torch.stack([half.pop("rows").unflatten(0, (STEPS, 2)) for half in halves], dim=2)
    assert torch.equal(rows.flatten(1, 3), alone.pop("rows"))
    for name, expected in alone.items():
        assert torch.equal(halves[0][name], halves[1][name]), name
        torch.testing.assert_close(halves[0][name], expected, rtol=1e-4, atol=1e-6, msg=name)


def _again_and_again(folder: Path) -> None:
    config = tiny("parallel.device=cpu", documents(folder), "train.steps=2")
    hashes = []
    with Trainer(config) as first, Trainer(config) as beside:
        for trainer in (first, beside):
            trainer.train()
            hashes.append(trainer.weights_sha256())
    first.close()
    with Trainer(config) as later:
        later.train()
        hashes.append(later.weights_sha256())
    assert len(set(hashes)) == 1
    (folder / f"rank{later.ranks.rank}.txt").write_text(hashes[0])


def test_trainers_follow_each_other_and_live_side_by_side(folder: Path) -> None:
    """Two at once use one group, closing twice does no harm, and after the last was closed the ranks meet again."""
    on_two_ranks(_again_and_again, folder)
    assert (folder / "rank0.txt").read_text() == (folder / "rank1.txt").read_text()


def _first_step(folder: Path) -> None:
    with Trainer(tiny("parallel.device=cpu", documents(folder))) as trainer:
        until = time.perf_counter() + 0.1
        while time.perf_counter() < until:  # a run looks for a checkpoint here
            pass
        started = time.perf_counter()
        trainer.update((trainer.accumulate(), trainer.hyper(1))[1])
        parts = trainer.clock.close()
        assert sum(asdict(parts).values()) <= (time.perf_counter() - started) * 1e3


def test_the_first_step_is_timed_from_its_own_start(folder: Path) -> None:
    """What was sent while the model was built is no part of it."""
    on_two_ranks(_first_step, folder)


def _lose_a_peer(folder: Path) -> None:
    rank = os.environ["RANK"]
    importlib.import_module("torch._dynamo")  # what takes seconds on a busy machine is done before the time-out counts
    prepare(tiny(documents(folder)).data)
    (folder / f"ready{rank}").touch()
    while not all((folder / f"ready{number}").exists() for number in range(2)):  # the time-out is for the meeting too
        time.sleep(0.01)
    with Trainer(tiny("parallel.device=cpu", f"parallel.timeout_s={TIMEOUT_S}", documents(folder))) as trainer:
        trainer.train_step()
        if rank == "1":
            os.kill(os.getpid(), signal.SIGSTOP)
        started = time.monotonic()
        try:
            trainer.train()
        except Exception as error:
            (folder / "error.txt").write_text(f"{time.monotonic() - started} {error}")
            raise


def test_a_script_whose_peer_is_gone_silently_ends_by_itself(folder: Path) -> None:
    """As when the network between two machines is cut: it raises within `parallel.timeout_s`, and its process is over."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with two(_rank, _lose_a_peer, store.port, folder) as (process, stopped):
        process.join(DEADLINE_S)
        assert process.exitcode == 1
        assert stopped.is_alive()
    seconds, _, message = (folder / "error.txt").read_text().partition(" ")
    assert TIMEOUT_S - 1 < float(seconds) < 2 * TIMEOUT_S
    assert f"{TIMEOUT_S}000ms" in message or f"{TIMEOUT_S} s" in message


def test_a_rank_that_works_alone_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no other one that waits: a save may take minutes."""
    monkeypatch.setattr(ranks_module, "BEAT_S", 0.01)
    alone = Ranks(0, 1, torch.device("cpu"))
    before = alone.pulse.beats

    def work() -> bool:
        give_up_at = time.monotonic() + DEADLINE_S
        while alone.pulse.beats < before + 10 and time.monotonic() < give_up_at:
            time.sleep(0.001)
        return alone.pulse.beats >= before + 10

    assert alone.alone(work)


def test_work_that_beats_itself_shows_when_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks meet while it works, and that is no sign of life of it."""
    monkeypatch.setattr(ranks_module, "BEAT_S", 0.001)
    meetings = []
    monkeypatch.setattr(
        Ranks, "post_sum", lambda self, values: meetings.append(values) or PendingSum(lambda: values, self.pulse)
    )
    alone = Ranks(0, 1, torch.device("cpu"))

    def work() -> list[int]:
        seen = []
        for _ in range(2):
            met = len(meetings)
            while len(meetings) < met + 5:
                time.sleep(0.001)
            seen.append(alone.pulse.beats)
            alone.pulse.beat()
        return seen

    assert alone.alone(work, beats=True) == [0, 1]
    assert meetings[-1] == [0.0]


@pytest.mark.parametrize(("num_gpus", "said"), [(0, "sees no GPU"), (2, "cuda:2 was asked for, but this process sees 2 GPUs")])
def test_more_ranks_than_gpus_is_a_sentence(monkeypatch: pytest.MonkeyPatch, num_gpus: int, said: str) -> None:
    """The third rank of a machine with two GPUs says so, instead of torch's "invalid device ordinal"."""
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(UsageError, match=said):
        from_environment(ParallelSection(device="cuda"))


UNUSED = """
from plt_tui import LanguageModel
from torch import nn

class Spare(LanguageModel):
    def __init__(self, shape, *, vocab_size, context, argument):
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.embedding, self.head = nn.Embedding(vocab_size, 8), nn.Linear(8, vocab_size)
        self.spare = nn.Linear(8, 8)

    def logits(self, ids):
        return self.head(self.embedding(ids))

MODELS = {"spare": Spare}
"""


def _train_spare(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"spare\.weight, spare\.bias take no part in the loss"):
        Trainer(tiny("model.arch=spare", "parallel.device=cpu"), plugins=Plugins((str(folder / "spare.py"),)))


def test_a_parameter_outside_the_loss_is_named(tmp_path: Path) -> None:
    """A plug-in's model that several ranks cannot train is refused at the start, with the names."""
    (tmp_path / "spare.py").write_text(UNUSED)
    on_two_ranks(_train_spare, tmp_path)


def sum_within_a_backward_pass(ranks: Ranks) -> list[Work]:
    """What DDP does at the end of a backward pass."""
    works: list[Work] = []
    weight = torch.ones(2, requires_grad=True)
    weight.register_post_accumulate_grad_hook(lambda leaf: works.append(all_reduce(leaf.grad, async_op=True)))
    weight.sum().backward()
    works[0].wait()
    return works


def sum_without_a_board(ranks: Ranks) -> list[Work]:
    """What ranks on several machines do in every step."""
    works: list[Work] = []

    def kept(*arguments: Any, **options: Any) -> Work:
        works.append(all_reduce(*arguments, **options))
        return works[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "all_reduce", kept)
        assert replace(ranks, board=None).sum([1.0]) == [2.0]
    return works


def _late_threads(folder: Path) -> None:
    ranks_module.LET_GO_S = DEADLINE_S
    for collective in (sum_within_a_backward_pass, sum_without_a_board):
        ranks = from_environment(ParallelSection(device="cpu"))
        works = collective(ranks)
        assert len(works) == 1
        late = threading.Timer(0.3, works.clear)
        late.start()
        leave(ranks)
        assert works == []


def test_a_process_leaves_its_groups_after_the_last_thread_that_needs_the_interpreter(tmp_path: Path) -> None:
    """A thread of gloo that lets go of a sum while the interpreter shuts down ends the process with SIGABRT."""
    on_two_ranks(_late_threads, tmp_path)


def _never(folder: Path) -> None:
    ranks_module.LET_GO_S = 0.1
    ranks = from_environment(ParallelSection(device="cpu"))
    works = sum_within_a_backward_pass(ranks)
    leave(ranks)
    assert len(works) == 1


def test_a_process_does_not_wait_for_ever_to_leave_its_groups(tmp_path: Path) -> None:
    """Something of a person's own may hold on to a sum for good: it goes with the process."""
    on_two_ranks(_never, tmp_path)
