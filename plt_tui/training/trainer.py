"""One rank's model, optimizer and place in the data, and the operations of training on them.

Knows nothing of hubs or commands: the rank loop (`session`) calls it, and so can a script. Every method without another word is
for all ranks together. Invariant: what a step computes depends only on (config, edits, step, cursor, world size).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from plt_tui.config.hyper import Edit, lr_at, value_at
from plt_tui.config.schema import RunConfig
from plt_tui.data.cursor import Batches, EvalWindows
from plt_tui.data.prepare import Dataset, prepare
from plt_tui.errors import DataError, NonFiniteLoss, UsageError
from plt_tui.model.generate import generate
from plt_tui.model.init import build_model
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot, copy_tensors, weights_sha256
from plt_tui.training.evaluate import EvalResult, evaluate
from plt_tui.training.optimizer import StepHyper, build_optimizer, load_state_tensors, state_tensors, tell
from plt_tui.training.ranks import Ranks
from plt_tui.training.seeds import stream_seed

_TARGETS = {"steps", "epochs", "tokens"}
DEFAULT_STEPS = 1000
"""Length of a run whose config names neither steps nor epochs nor tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSums:
    """What one rank knows of a step after its backward passes."""

    loss: float
    """Mean over this rank's tokens, nats per token."""
    data_s: float


class Trainer:
    """Trains `config.model` on `config.data`: on its own in one process, or as one of several ranks.

    dataset: prepared tokens; made from `config.data` when left out. ranks: this process's place; alone on the CPU by default.
    """

    def __init__(self, config: RunConfig, *, dataset: Dataset | None = None, ranks: Ranks | None = None) -> None:
        self.config = config
        self.ranks = ranks if ranks is not None else Ranks(0, 1, torch.device("cpu"))
        self.dataset = dataset if dataset is not None else prepare(config.data)
        self.batches = Batches(self.dataset.train, config.data.context, stream_seed(config.run.seed, "data"))
        self.windows = EvalWindows(self.dataset.eval, config.data.context)
        self.model = build_model(
            config.model,
            vocab_size=self.dataset.tokenizer.vocab_size,
            context=config.data.context,
            seed=stream_seed(config.run.seed, "weights"),
        ).to(self.ranks.device)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.step = 0
        """Completed optimizer steps."""
        self.sample_index = 0
        """Global index of the next training sequence: the whole place in the data."""
        self.tokens = 0
        self.edits: list[Edit] = []
        self.target_step = self._target_step()
        self._replica = self._wrapped()

    @property
    def global_batch(self) -> int:
        """Sequences per optimizer step over all ranks and micro-steps."""
        return self.config.train.batch_size * self.config.train.accumulate * self.ranks.world_size

    @property
    def tokens_per_step(self) -> int:
        """Tokens trained on per optimizer step."""
        return self.global_batch * self.config.data.context

    def hyper(self, step: int) -> StepHyper:
        """What the optimizer is told for step `step` (1-based)."""
        return StepHyper(
            lr=lr_at(self.config.optim, self.target_step, self.edits, step),
            betas=value_at(self.config, self.edits, "betas", step),
            weight_decay=value_at(self.config, self.edits, "weight_decay", step),
            grad_clip=value_at(self.config, self.edits, "grad_clip", step),
        )

    def accumulate(self) -> StepSums:
        """Forward and backward over this rank's share of the next global batch; the last pass averages gradients over ranks."""
        train = self.config.train
        loss_sum = torch.zeros((), device=self.ranks.device)
        data_s = 0.0
        for micro in range(train.accumulate):
            started = time.perf_counter()
            ids = self._micro_batch(micro)
            data_s += time.perf_counter() - started
            if self.config.model.dropout:
                torch.manual_seed(stream_seed(self.config.run.seed, "dropout", self.ranks.rank, self.step, micro))
            with self._synchronised(micro == train.accumulate - 1), self._autocast():
                loss = self._replica(ids[:, :-1], ids[:, 1:])
                (loss / train.accumulate).backward()
            loss_sum += loss.detach()
        return StepSums(loss=float(loss_sum) / train.accumulate, data_s=data_s)

    def update(self, hyper: StepHyper) -> float:
        """Clip and apply the gradients of `accumulate`; the step is complete then. Returns the gradient norm before clipping.

        Raises: NonFiniteLoss before anything was changed; on every rank, because all ranks hold the same gradients.
        """
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        total = nn.utils.get_total_norm(gradients, foreach=True)
        norm = float(total)
        if not math.isfinite(norm):
            raise NonFiniteLoss(
                f"the gradient norm is {norm} at step {self.step + 1}; the weights were not changed. "
                "Lower optim.lr or resume from an earlier checkpoint"
            )
        if hyper.grad_clip and norm > hyper.grad_clip:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), hyper.grad_clip, total, foreach=True)
        tell(self.optimizer, hyper)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.step += 1
        self.sample_index += self.global_batch
        self.tokens += self.tokens_per_step
        return norm

    def train_step(self) -> float:
        """One optimizer step. Returns the mean loss over all ranks, nats per token."""
        pending = self.ranks.post_sum([self.accumulate().loss])
        self.update(self.hyper(self.step + 1))
        return pending.wait()[0] / self.ranks.world_size

    def train_epoch(self) -> float:
        """Train to the end of the current pass over the corpus. Returns the mean loss of its steps."""
        steps_per_epoch = self.batches.samples_per_epoch / self.global_batch
        end = math.ceil((math.floor(self.step / steps_per_epoch) + 1) * steps_per_epoch)
        losses = [self.train_step() for _ in range(max(1, end - self.step))]
        return sum(losses) / len(losses)

    def train(self) -> float:
        """Train to the target of `config.train`. Returns the last step's loss, NaN when there was nothing to do."""
        loss = math.nan
        while self.step < self.target_step:
            loss = self.train_step()
        return loss

    def evaluate(self) -> EvalResult:
        """Loss, perplexity, bits per byte and accuracy on the held-out text."""
        return evaluate(
            self.model,
            self.windows,
            self.ranks,
            batch_size=self.config.train.batch_size,
            batches=self.config.eval.batches,
            bytes_per_token=self.dataset.bytes_per_token,
        )

    def sample(self, prompt: str | None = None) -> tuple[str, str]:
        """The prompt and its continuation by the model as it is now; any rank may call it alone."""
        at = self.step
        prompt = prompt if prompt is not None else str(value_at(self.config, self.edits, "prompt", at))
        tokenizer = self.dataset.tokenizer
        ids = tokenizer.encode_prompt(prompt).tolist() or [tokenizer.end_of_text or 0]
        start = torch.tensor(ids, dtype=torch.int64, device=self.ranks.device)
        written = generate(
            self.model,
            start,
            tokens=self.config.sample.tokens,
            temperature=float(value_at(self.config, self.edits, "temperature", at)),
            seed=stream_seed(self.config.run.seed, "sample", at),
        )
        return prompt, tokenizer.decode(written)

    def weights_sha256(self) -> str:
        """Hash of all weights; the same on every rank."""
        return weights_sha256(dict(self.model.named_parameters()))

    def snapshot(self, name: str = "") -> Snapshot:
        """A copy of everything that a resume needs; any rank may take it alone, all hold the same."""
        return Snapshot(
            step=self.step,
            model=copy_tensors(self.model.named_parameters()),
            optimizer=copy_tensors(state_tensors(self.optimizer, self.model)),
            state=self._state(),
            name=name,
        )

    def save_checkpoint(self, root: Path, name: str = "") -> Path:
        """Write a checkpoint under `root` and return its folder; one rank only. Raises: StorageError."""
        return checkpoint.write(root, self.snapshot(name))[0]

    def load_checkpoint(self, folder: Path) -> list[str]:
        """Continue from the checkpoint in `folder`. Returns why the continuation is not exact, empty when it is.

        Compares the weights with their hash; `checkpoint.verify` compares every byte. Raises: StorageError when it is damaged,
        UsageError when the model has another shape, DataError when the data changed.
        """
        snapshot = checkpoint.read(folder)
        self._refuse_mismatch(folder, snapshot.state)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(snapshot.model[name])
        load_state_tensors(self.optimizer, self.model, snapshot.optimizer)
        self.step = snapshot.step
        self.sample_index = int(snapshot.state["sample_index"])
        self.tokens = int(snapshot.state["tokens"])
        self.target_step = self._target_step()
        return differences(snapshot.state["exact_if"], self._exact_if())

    def _target_step(self) -> int:
        """The last step that `[train]` asks for, given how far this run is already."""
        train = self.config.train
        if train.steps:
            return train.steps
        left = DEFAULT_STEPS - self.step
        if train.epochs:
            left = math.ceil((train.epochs * self.batches.samples_per_epoch - self.sample_index) / self.global_batch)
        elif train.tokens:
            left = math.ceil((train.tokens - self.tokens) / self.tokens_per_step)
        return self.step + max(0, left)

    def _exact_if(self) -> dict[str, Any]:
        """What must be the same for a resume to give the same bits."""
        config = self.config
        return {
            "world_size": self.ranks.world_size,
            "threads": torch.get_num_threads(),
            "device": self.ranks.device.type,
            "torch": str(torch.__version__),
            "run.seed": config.run.seed,
            "model.dropout": config.model.dropout,
            "target_step": self.target_step,  # the schedule's end, however `[train]` asked for it
            **{f"train.{key}": value for key, value in config.train.model_dump(mode="json", exclude=_TARGETS).items()},
            **{f"optim.{key}": value for key, value in config.optim.model_dump(mode="json").items()},
        }

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "sample_index": self.sample_index,
            "tokens": self.tokens,
            "shape": self._shape(),
            "data_fingerprint": self.dataset.fingerprint,
            "tokenizer": self.dataset.tokenizer.to_json(),
            "exact_if": self._exact_if(),
        }

    def _shape(self) -> dict[str, Any]:
        """What the size of the weights depends on."""
        return {
            **self.config.model.model_dump(mode="json", exclude={"preset", "dropout"}),
            "context": self.config.data.context,
            "vocab_size": self.dataset.tokenizer.vocab_size,
        }

    def _refuse_mismatch(self, folder: Path, state: Mapping[str, Any]) -> None:
        changes = differences(state["shape"], self._shape())
        if changes:
            what = ", ".join(changes)
            raise UsageError(f"{folder} holds a model of another shape ({what}); undo the change, or start with another --name")
        if state["data_fingerprint"] != self.dataset.fingerprint:
            raise DataError(
                f"the training data or tokenizer changed since {folder} was saved; "
                "put the old data back, or start a new run with another --name"
            )

    def _wrapped(self) -> nn.Module:
        module: nn.Module = self.model
        if self.config.train.compile:
            module = cast("nn.Module", torch.compile(self.model))  # typed as a plain callable
        if self.ranks.world_size == 1:
            return module
        on_gpu = self.ranks.device.type == "cuda"
        replica = DistributedDataParallel(
            module,
            device_ids=[self.ranks.device] if on_gpu else None,
            gradient_as_bucket_view=True,
            # On a CPU every core computes, so sending a bucket during the backward pass hides nothing: one transfer at the end
            # is 1.3 % faster at the quick start than DDP's default of several (docs/LOG.md, 2026-11-22).
            bucket_cap_mb=None if on_gpu else 1 + sum(p.numel() * p.element_size() for p in module.parameters()) // 2**20,
        )
        self._settle_buckets(replica)
        return replica

    def _settle_buckets(self, replica: DistributedDataParallel) -> None:
        """Run one throw-away pass: DDP lays its buckets out anew after the first one.

        With three and more ranks the order of a sum depends on that layout, so without this the first step after a resume
        would differ in its last bits from the same step of a run that never stopped.
        """
        size = (self.config.train.batch_size, self.config.data.context)  # as in training: torch.compile sees one shape only
        ids = torch.zeros(size, dtype=torch.int64, device=self.ranks.device)
        with self._autocast():
            replica(ids, ids).backward()
        self.optimizer.zero_grad(set_to_none=False)

    def _micro_batch(self, micro: int) -> Tensor:
        size = self.config.train.batch_size
        first = self.sample_index + (micro * self.ranks.world_size + self.ranks.rank) * size
        return torch.from_numpy(self.batches.batch(first, size)).to(self.ranks.device)

    @contextlib.contextmanager
    def _synchronised(self, is_last: bool) -> Iterator[None]:
        """Let DDP average gradients in the last micro-step only; forward and backward must both be inside."""
        if is_last or not isinstance(self._replica, DistributedDataParallel):
            yield
        else:
            with self._replica.no_sync():
                yield

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.train.precision == "bf16":
            return torch.autocast(self.ranks.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Every key whose value changed, as "key before -> now"."""
    return [f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]


def edits_from(values: Sequence[dict[str, Any]]) -> list[Edit]:
    """Edits as the hub passes them to a rank."""
    return [Edit(**value) for value in values]
