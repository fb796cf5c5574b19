"""A training loop that agrees at every step, and the same one that does not: what `agreement` compares.

`python -m benchmarks.agreed_ddp OUT --ranks N --pairs N` trains one model over DDP, each rank with a real link to this process,
which says nothing, as a hub does most of the time. Blocks of steps with and without the exchange take turns (ABBA), so that
neither the machine's mood nor the model's state favours one. It writes OUT/rank-0.json and so on.

What a bare loop needs anyway stays in both: each rank reads its own loss at every step, and every LOG_EVERY steps the plain
loop adds it over the ranks, as torchtitan does by default (`log_freq` 10). The exchange carries the loss, so the agreed loop
needs no other sum, and knows the loss over all ranks at every step: that is part of what its cost buys.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.workplace import DEADLINE_S
from plt_tui.config.schema import ModelSection
from plt_tui.model.build import build_model
from plt_tui.protocol.link import HubEnd, Queues, RankEnd
from plt_tui.training.agreement import Agreement
from plt_tui.training.ranks import Ranks, joined

MODEL = ModelSection(layers=2, width=48, heads=2)
VOCAB, CONTEXT, BATCH = 257, 32, 2
"""With MODEL: a step of 5 to 6 ms."""
LOG_EVERY = 10
BLOCK_STEPS = 20
WARM_UP_BLOCKS = 6


def main() -> None:
    """Start the ranks and be their silent hub until they end."""
    parser = argparse.ArgumentParser(prog="benchmarks.agreed_ddp")
    parser.add_argument("out", type=Path)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    links = [Queues.create(context) for _ in range(options.ranks)]
    jobs = [(rank, options.ranks, options.pairs, options.out, link) for rank, link in enumerate(links)]
    processes = [context.Process(target=train, args=job, daemon=True) for job in jobs]
    for process in processes:
        process.start()
    hub = [HubEnd(link, lambda events: None, lambda: None) for link in links]
    for end in hub:
        end.open()
    for process in processes:
        process.join(DEADLINE_S)
    for end in hub:
        end.close()
    sys.exit(int(any(process.exitcode != 0 for process in processes)))


def train(rank: int, num_ranks: int, num_pairs: int, out: Path, link: Queues) -> None:
    """One rank. Called in a process of its own."""
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {"plain": [], "agreed": []}
    with joined(rank, num_ranks, "cpu", out / "meeting") as ranks:
        loop = Loop(ranks, Agreement(ranks, RankEnd(link)))
        for number in range(WARM_UP_BLOCKS):
            loop.block(loop.plain if number % 2 else loop.agreed)
        for number in range(num_pairs):
            for name in ("plain", "agreed") if number % 2 == 0 else ("agreed", "plain"):
                seconds[name].append(loop.block(loop.plain if name == "plain" else loop.agreed) / BLOCK_STEPS)
    (out / f"rank-{rank}.json").write_text(json.dumps(seconds))


class Loop:
    """A model in training, and a step of it with and without the exchange."""

    def __init__(self, ranks: Ranks, agreement: Agreement) -> None:
        self._ranks = ranks
        self._agreement = agreement
        model = build_model(MODEL, vocab_size=VOCAB, context=CONTEXT, seed=1)
        self._replica = DistributedDataParallel(model, gradient_as_bucket_view=True)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        generator = torch.Generator().manual_seed(ranks.rank)
        self._batches = torch.randint(VOCAB, (64, BATCH, CONTEXT + 1), generator=generator)
        self._step = 0

    def block(self, step: Callable[[], None]) -> float:
        """Seconds that BLOCK_STEPS steps take; the ranks begin together."""
        self._ranks.sum([0.0])
        started_s = time.perf_counter()
        for _ in range(BLOCK_STEPS):
            step()
        return time.perf_counter() - started_s

    def plain(self) -> None:
        """A step of the bare loop."""
        own = self._backward().item()
        self._update()
        if self._step % LOG_EVERY == 0:
            total = torch.tensor(own)
            dist.all_reduce(total)
            total.item()

    def agreed(self) -> None:
        """The same with the exchange, as the rank loop makes it: posted before the update, settled after it."""
        pending = self._agreement.post([self._backward().item()])
        self._update()
        self._agreement.settle(pending)

    def _backward(self) -> Tensor:
        ids = self._batches[self._step % len(self._batches)]
        self._step += 1
        loss: Tensor = self._replica(ids[:, :-1], ids[:, 1:])
        loss.backward()
        return loss

    def _update(self) -> None:
        nn.utils.clip_grad_norm_(self._replica.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()


if __name__ == "__main__":
    main()
