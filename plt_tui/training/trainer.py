"""One rank's model, optimizer and place in the data, and the operations of training on them.

Knows nothing of hubs or commands: the rank loop (`session`) calls it, and so can a script. Every method without another word is
for all ranks together. Invariant: what a step computes depends only on (config, edits, step, cursor, world size).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plt_tui.config.edits import Edit, edits_from, edits_to, merged, skips_update
from plt_tui.config.hyper import lr_at, value_at
from plt_tui.config.schema import RunConfig
from plt_tui.data.cursor import EvalWindows, train_batches
from plt_tui.data.prepare import Dataset, prepare
from plt_tui.errors import NonFiniteLoss
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import OURS, build_model
from plt_tui.model.generate import generate
from plt_tui.plugins import Plugins
from plt_tui.protocol.manifest import folder_name
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot, copy_tensors
from plt_tui.training.clock import StepClock
from plt_tui.training.continuity import exact_if, inexact_because, refuse_mismatch, shape_of
from plt_tui.training.evaluate import EvalResult, evaluate
from plt_tui.training.guard import Windows
from plt_tui.training.optimizer import StepHyper, build_optimizer, load_state_tensors, state_tensors, tell
from plt_tui.training.place import GlobalBatch, Place
from plt_tui.training.precision import UNSCALED, LossScale, autocast, set_math_modes
from plt_tui.training.ranks import Ranks, from_environment, leave
from plt_tui.training.replica import build_replica, unsynchronised
from plt_tui.training.seeds import stream_seed
from plt_tui.weights.bundle import Weights, load_into
from plt_tui.weights.digest import weights_sha256
from plt_tui.weights.read import load


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSums:
    """What one rank knows of a step after its backward passes."""

    loss: float
    """This rank's part of the step's loss: the mean of it over the ranks is nats per token of the global batch."""
    grad_norm: float
    """Global L2 norm of the gradients before clipping, the same on every rank; with fp16 infinity where they overflow."""
    num_targets: int
    """Tokens that the global batch predicts, padding left out."""


@dataclass(slots=True)
class _Held:
    """The step whose gradients are held."""

    batch: GlobalBatch
    loss: Tensor
    norm: Tensor | None = None
    """Of the gradients, unscaled, once they were measured."""


class Trainer:
    """Trains `config.model` on `config.data`: alone in one process, or as one of several ranks.

    dataset: prepared tokens; made from `config.data` when left out. ranks: this process's place; when left out, the one that
    the environment names (torchrun), else alone. Who gives it calls `init_weights` or `load_checkpoint` too. plugins: where
    `model.arch` and `plugin:` corpora are looked for. As a context manager it leaves the process groups that it joined.

    Raises: UsageError, DataError, StorageError for what does not fit, before anything is trained.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        dataset: Dataset | None = None,
        ranks: Ranks | None = None,
        plugins: Plugins = Plugins(),  # noqa: B008  (a frozen value)
    ) -> None:
        self.config = config
        self._owns_ranks = ranks is None
        self.ranks = ranks if ranks is not None else from_environment(config.parallel)
        set_math_modes(config.train, self.ranks.device)
        self.dataset = dataset if dataset is not None else prepare(config.data, plugins=plugins)
        batches = train_batches(self.dataset, config.data, stream_seed(config.run.seed, "data"))
        self.place = Place(batches, config, self.ranks.world_size)
        self.windows = EvalWindows(self.dataset.eval, config.data.context)
        self._plugins = plugins
        self.model = self._new_model().to(self.ranks.device)
        self.model.checkpoint_blocks = config.train.activation_checkpointing
        self.optimizer = build_optimizer(self.model, config.optim, self.ranks)
        self.clock = StepClock(self.ranks.device, self.ranks.pulse)
        self.step = 0
        """Completed optimizer steps."""
        self.began_at = 0
        """Step of another run's checkpoint that this run began with; 0: it began with its first weights."""
        self.edits: list[Edit] = []
        """What changes the configuration on the way, in the order of application; kept by whoever steers."""
        self.watch = Windows(config.guard)
        """Losses and gradient norms of the last steps, for the guard."""
        self._held: _Held | None = None
        self._draws = bool(config.model.dropout) or config.model.arch != OURS
        """Whether the model may draw random numbers: nobody knows what a plug-in's does."""
        self.loss_scale = LossScale() if config.train.precision == "fp16" else UNSCALED
        if self._owns_ranks:
            self.init_weights()
        self._replica = build_replica(self.model, config.train, self.ranks, self.clock)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the process groups that this trainer joined; it cannot train afterwards."""
        if self._owns_ranks:
            self._owns_ranks = False
            leave(self.ranks)

    @property
    def is_within_step(self) -> bool:
        """True between `accumulate` and the completion of its step."""
        return self._held is not None

    @property
    def tokens(self) -> int:
        """Tokens predicted since step 0, padding left out."""
        return self.place.tokens

    @property
    def global_batch(self) -> int:
        """Sequences of the next step over all ranks and micro-steps."""
        return self.place.global_batch(self.edits, self.step + 1)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that the next step trains on, padding included."""
        return self.global_batch * self.config.data.context

    @property
    def target_step(self) -> int:
        """The last step that `[train]` asks for, given how far this run is and how large its batches are now."""
        return self.place.target_step(self.edits, self.step)

    def hyper(self, step: int) -> StepHyper:
        """What the optimizer is told for step `step` (1-based), the next one or one after it."""
        return StepHyper(
            lr=lr_at(self.config.optim, self.target_step, self.edits, step),
            betas=value_at(self.config, self.edits, "betas", step),
            weight_decay=value_at(self.config, self.edits, "weight_decay", step),
            grad_clip=value_at(self.config, self.edits, "grad_clip", step),
        )

    def accumulate(self) -> None:
        """Forward and backward over this rank's share of the next global batch; the last pass averages gradients over ranks.

        The loss is normalised by the tokens of the whole global batch, so that padding weighs nothing and neither the number of
        ranks nor that of micro-steps changes a gradient.
        """
        train, device, step = self.config.train, self.ranks.device, self.step + 1
        batch = self.place.enter(self.edits, step)
        self.model.embedding_grad_scale = value_at(self.config, self.edits, "embedding_grad_scale", step)
        # DDP takes the mean over ranks: dividing by the share of one rank gives the mean over all tokens.
        normalizer = torch.tensor(batch.num_targets / self.ranks.world_size, device=device)
        loss_sum = torch.zeros((), device=device)
        for micro in range(batch.layout.accumulate):
            self.clock.mark("data")
            ids = self._micro_batch(batch, micro)
            if self._draws:
                torch.manual_seed(stream_seed(self.config.run.seed, "dropout", self.ranks.rank, self.step, micro))
            is_last = micro == batch.layout.accumulate - 1
            with contextlib.nullcontext() if is_last else unsynchronised(self._replica):
                self.clock.mark("forward")
                ids = ids.to(device, non_blocking=True)  # not a part of "data": it waits for the pass before it
                with autocast(train.precision, device):
                    loss = self._replica(ids[:, :-1].clamp_min(0), ids[:, 1:], normalizer)
                self.clock.mark("backward")
                (loss * self.loss_scale.scale).backward()
            loss_sum += loss.detach()
        self.clock.mark("other")
        self._held = _Held(batch, loss_sum)

    def measure(self) -> StepSums:
        """Loss and gradient norm of what `accumulate` did: on a GPU the one moment of a step at which the CPU waits for it."""
        self.clock.mark("optim")
        held = self._held
        assert held is not None, "accumulate comes first"
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        if self.loss_scale.scale != 1.0:
            torch._foreach_mul_(gradients, 1.0 / self.loss_scale.scale)
        held.norm = nn.utils.get_total_norm(gradients, foreach=True)
        norm, loss = torch.stack([held.norm, held.loss]).tolist()
        is_overflow = not math.isfinite(norm) and self.loss_scale is not UNSCALED
        return StepSums(loss=loss, grad_norm=math.inf if is_overflow else norm, num_targets=held.batch.num_targets)

    def update(self, hyper: StepHyper) -> float:
        """Clip and apply the gradients of `accumulate`; the step is complete then. Returns the gradient norm before clipping.

        With fp16 a step whose gradients overflow changes no weight and halves the loss scale.

        Raises: NonFiniteLoss before anything was changed; on every rank, because all ranks hold the same gradients.
        """
        total = self._measured()
        norm = float(total)
        if math.isfinite(norm):
            if hyper.grad_clip and norm > hyper.grad_clip:
                nn.utils.clip_grads_with_norm_(self.model.parameters(), hyper.grad_clip, total, foreach=True)
            tell(self.optimizer, hyper)
            self.optimizer.step()
        elif self.loss_scale is UNSCALED:
            raise NonFiniteLoss(
                f"the gradient norm is {norm} at step {self.step + 1}; the weights were not changed. "
                "Lower optim.lr or resume from an earlier checkpoint"
            )
        self._complete(is_finite=math.isfinite(norm))
        return norm if math.isfinite(norm) else math.inf

    def leave_out(self) -> None:
        """Complete the step of `accumulate` without applying its gradients."""
        self._complete(is_finite=math.isfinite(float(self._measured())))

    def _measured(self) -> Tensor:
        if self._held is None or self._held.norm is None:
            self.measure()
        assert self._held is not None and self._held.norm is not None, "measured above"  # noqa: PT018  (one fact)
        return self._held.norm

    def _complete(self, *, is_finite: bool) -> None:
        if self.loss_scale is not UNSCALED:
            self.loss_scale = self.loss_scale.after(is_finite=is_finite)
        self.optimizer.zero_grad(set_to_none=False)
        assert self._held is not None, "accumulate comes first"
        self.place.leave(self._held.batch)
        self._held = None
        self.step += 1
        self.clock.mark("other")

    def train_step(self) -> float:
        """One optimizer step. Returns the mean loss over the global batch before the update, nats per token."""
        self.accumulate()
        pending = self.ranks.post_sum([self.measure().loss])
        if skips_update(self.edits, self.step + 1):
            self.leave_out()
        else:
            self.update(self.hyper(self.step + 1))
        self.clock.close()
        return pending.wait()[0] / self.ranks.world_size

    def train_epoch(self) -> float:
        """Train to the end of the current pass over the corpus. Returns the mean loss of its steps."""
        place, per_epoch = self.place, self.place.batches.samples_per_epoch
        end = (place.sample_index // per_epoch + 1) * per_epoch
        losses = []
        while place.sample_index < end:
            losses.append(self.train_step())
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
            precision=self.config.train.precision,
        )

    def sample(self, prompt: str | None = None) -> tuple[str, str]:
        """The prompt and its continuation by the model as it is now; any rank may call it alone."""
        at, wishes = self.step, self.config.sample
        prompt = prompt if prompt is not None else str(value_at(self.config, self.edits, "prompt", at))
        tokenizer = self.dataset.tokenizer
        ids = tokenizer.encode_prompt(prompt).tolist() or [tokenizer.end_of_text or 0]
        written = generate(
            self.model,
            torch.tensor(ids, dtype=torch.int64, device=self.ranks.device),
            tokens=wishes.tokens,
            temperature=float(value_at(self.config, self.edits, "temperature", at)),
            top_k=int(value_at(self.config, self.edits, "top_k", at)),
            top_p=float(value_at(self.config, self.edits, "top_p", at)),
            seed=stream_seed(self.config.run.seed, "sample", at),
            on_token=self.ranks.pulse.beat,
        )
        return prompt, tokenizer.decode(written)

    def weights_sha256(self) -> str:
        """Hash of all weights; the same on every rank."""
        return weights_sha256(dict(self.model.named_parameters()))

    def init_weights(self) -> None:
        """Begin with the weights at `train.init_from`, where the config names any. Raises: UsageError, StorageError."""
        self._init(self.model)

    def moment(self) -> Snapshot:
        """A copy of everything that a rewind in this process needs; any rank may take it alone, all hold the same."""
        scaled = {} if self.loss_scale is UNSCALED else {"loss_scale": asdict(self.loss_scale)}
        return Snapshot(
            step=self.step,
            model=copy_tensors(self.model.named_parameters()),
            optimizer=copy_tensors(state_tensors(self.optimizer, self.model)),
            state={"step": self.step, **self.place.state(), "watch": self.watch.state(), **scaled},
        )

    def snapshot(self, name: str = "") -> Snapshot:
        """A copy of everything that a resume in another process needs; any rank may take it alone."""
        moment = self.moment()
        return replace(moment, name=name, state={**moment.state, **self._origin()})

    def save_checkpoint(self, root: Path | str, name: str = "") -> Path:
        """Write a checkpoint under `root` and return its folder; all ranks, rank 0 writes. Raises: StorageError."""
        written = self.ranks.alone(lambda: checkpoint.write(Path(root), self.snapshot(name))[0])
        return written if written is not None else Path(root) / folder_name(self.step)

    def load_checkpoint(self, folder: Path | str) -> list[str]:
        """Continue from the checkpoint in `folder`. Returns why the continuation is not exact, empty when it is.

        What the checkpoint was computed with wins over `edits` up to its step: a hub that died may have lost the last ones.
        Raises: StorageError when the weights have another hash, UsageError or DataError when model or data are others.
        """
        snapshot = checkpoint.read(Path(folder))
        refuse_mismatch(Path(folder), snapshot.state, self._shape(), self.dataset.fingerprint)
        self.restore(snapshot, source=str(folder))
        self.began_at = int(snapshot.state.get("began_at", 0))  # absent from the first version's checkpoints, as are the edits
        if "edits" in snapshot.state:
            self.edits = merged(edits_from(snapshot.state["edits"]), self.edits, self.step)
        return inexact_because(snapshot.state["exact_if"], self.config, self.ranks, self.target_step)

    def restore(self, snapshot: Snapshot, *, source: str = "memory") -> None:
        """Go back to `snapshot` in place; `edits` stay as they are. Raises: StorageError or UsageError when it does not fit."""
        load_state_tensors(self.optimizer, self.model, snapshot.optimizer)  # first: it refuses more often, and changes nothing
        load_into(Weights(source=source, tensors=snapshot.model), self.model)
        self.step = snapshot.step
        self.place.restore(snapshot.state)
        self.watch = Windows.restored(self.config.guard, snapshot.state.get("watch", {}))
        if self.loss_scale is not UNSCALED:
            self.loss_scale = LossScale(**snapshot.state.get("loss_scale", {}))

    def first_snapshot(self) -> Snapshot:
        """What `snapshot` gave before the first step, made anew."""
        model = self._new_model()
        self._init(model)
        place = {"sample_index": 0, "tokens": 0}
        return Snapshot(step=0, model=copy_tensors(model.named_parameters()), optimizer={}, state=place)

    @property
    def state_bytes(self) -> int:
        """Memory that one snapshot takes."""
        tensors = itertools.chain(self.model.named_parameters(), state_tensors(self.optimizer, self.model))
        return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)

    def _new_model(self) -> LanguageModel:
        """The model with its initial values, on the CPU."""
        return build_model(
            self.config.model,
            vocab_size=self.dataset.tokenizer.vocab_size,
            context=self.config.data.context,
            seed=stream_seed(self.config.run.seed, "weights"),
            plugins=self._plugins,
        )

    def _init(self, model: LanguageModel) -> None:
        if self.config.train.init_from:
            load_into(load(self.config.train.init_from), model)

    def _origin(self) -> dict[str, Any]:
        """What the state of this run belongs to: a process that loads it may be of another one."""
        return {
            "edits": edits_to(self.edits),
            "began_at": self.began_at,
            "shape": self._shape(),
            "data_fingerprint": self.dataset.fingerprint,
            "tokenizer": self.dataset.tokenizer.to_json(),
            "exact_if": exact_if(self.config, self.ranks, self.target_step),
        }

    def _shape(self) -> dict[str, Any]:
        return shape_of(self.config, self.dataset.tokenizer.vocab_size)

    def _micro_batch(self, batch: GlobalBatch, micro: int) -> Tensor:
        """This rank's sequences of a micro-step, in the CPU's memory: int64 (B, T + 1)."""
        first = batch.share(micro, self.ranks.rank, self.ranks.world_size)
        ids = torch.from_numpy(self.place.batches.batch(first, batch.layout.batch_size))
        return ids.pin_memory() if self.ranks.device.type == "cuda" else ids
