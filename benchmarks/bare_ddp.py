"""What plt-tui's speed is compared with: the training loop that a good engineer writes when nothing else is asked for.

Same model, data, order, optimizer and schedule as the run of the same configuration, so that both must give the same losses;
but no hub, no queue, no control and no record: the loss of each rank is kept in a list. It is a program of its own:
`python -m benchmarks.bare_ddp CONFIG OUT --ranks N --threads N` writes OUT/rank-0.json and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from plt_tui.config.hyper import base_lr
from plt_tui.config.load import from_toml
from plt_tui.config.schema import OptimSection
from plt_tui.data.cursor import train_batches
from plt_tui.data.prepare import prepare
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import build_model
from plt_tui.model.groups import decay_groups
from plt_tui.training.seeds import stream_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every rank is told."""

    config: Path
    out: Path
    ranks: int
    threads: int


def main() -> None:
    """Train, one process per rank."""
    parser = argparse.ArgumentParser(prog="benchmarks.bare_ddp")
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    job = Job(**vars(parser.parse_args()))
    job.out.mkdir(parents=True)
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    spawn(train, args=(job,), nprocs=job.ranks)  # type: ignore[no-untyped-call]


def train(rank: int, job: Job) -> None:
    """One rank. Called by torch in a process of its own."""
    config = from_toml(job.config.read_text())
    torch.set_num_threads(job.threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{job.out / 'meeting'}", rank=rank, world_size=job.ranks)
    dataset = prepare(config.data)
    batches = train_batches(dataset, config.data, stream_seed(config.run.seed, "data"))
    model = build_model(
        config.model,
        vocab_size=dataset.tokenizer.vocab_size,
        context=config.data.context,
        seed=stream_seed(config.run.seed, "weights"),
    )
    replica = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = _adamw(model, config.optim)
    steps, size = config.train.steps, config.train.batch_size
    losses: list[float] = []
    ends_s: list[float] = []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = base_lr(config.optim, steps, step)
        ids = torch.from_numpy(batches.batch(((step - 1) * job.ranks + rank) * size, size))
        loss = replica(ids[:, :-1], ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        ends_s.append(time.perf_counter())
    (job.out / f"rank-{rank}.json").write_text(json.dumps({"losses": losses, "ends_s": ends_s}))
    dist.destroy_process_group()


def _adamw(model: LanguageModel, optim: OptimSection) -> torch.optim.Optimizer:
    decayed, plain = decay_groups(model)
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=True)


if __name__ == "__main__":
    main()
