"""What a user can ask for: one frozen model per TOML section, every field with its meaning, unit and default.

The defaults are the quick start: `plt-tui run` without a file trains a small model on the built-in corpus. Reading files and
options is `load`'s work; nothing here touches the disk. Invariant: a RunConfig that exists is valid.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from plt_tui.config.presets import PRESETS

LARGEST = 2**53
"""Integers up to here are exact as float64, in which histories keep them."""
PositiveInt = Annotated[int, Field(ge=1, le=LARGEST)]
Interval = Annotated[int, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, types are not guessed, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


class RunSection(Section):
    """Who this run is."""

    name: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?$")
    """Name of the run and of its folder; empty: made from the config file's name and the date."""
    dir: str = "runs"
    """Folder that holds the run folders."""
    seed: int = Field(default=1337, ge=0, lt=2**63)
    """Seed of initial weights, data order, dropout and samples."""


class DataSection(Section):
    """From text to batches."""

    train: str = Field(default="builtin:python-docs", min_length=1)
    """Training corpus: a file, a folder, a glob, `builtin:python-docs` or `builtin:python-source`."""
    eval: str = ""
    """Held-out corpus; empty: the last `eval_fraction` of the training corpus."""
    eval_fraction: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the training corpus held out when `eval` is empty."""
    format: Literal["auto", "text", "jsonl", "tokens"] = "auto"
    """How to read the files; auto goes by their endings (.jsonl, .bin and .npy hold JSON lines and token ids)."""
    text_field: str = "text"
    """Field of a JSON line that holds the text."""
    token_dtype: Literal["uint16", "uint32"] = "uint16"
    """Type of the ids in a `.bin` file."""
    tokenizer: str = Field(default="byte", min_length=1)
    """`byte`, `char`, `bpe` (trained on the corpus), or the path of a `tokenizer.json`."""
    vocab_size: int = Field(default=4096, ge=257, le=2**31)
    """Size of the vocabulary that `bpe` learns, or that `tokens` files use."""
    context: int = Field(default=128, ge=1)
    """Tokens that the model sees at once."""


class ModelSection(Section):
    """The shape of the decoder-only transformer."""

    preset: str = ""
    """Named shape whose values are used for every key not given here."""
    layers: PositiveInt = 4
    """Number of blocks."""
    width: PositiveInt = 128
    """Size of the residual stream."""
    heads: PositiveInt = 4
    """Number of query heads; divides width."""
    kv_heads: int = Field(default=0, ge=0)
    """Number of key-value heads (grouped-query attention); divides heads; 0: as many as heads."""
    ffn: int = Field(default=0, ge=0)
    """Hidden size of the feed-forward part; 0: 4 x width, or 8/3 x width rounded up to 32 for swiglu."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Normalisation before attention, feed-forward and output."""
    position: Literal["rope", "learned", "none"] = "rope"
    """How positions enter: rotary embedding, learned table, or not at all."""
    activation: Literal["relu2", "gelu", "swiglu"] = "relu2"
    """Feed-forward non-linearity."""
    qk_norm: bool = True
    """Normalise queries and keys per head."""
    tie_embeddings: bool = False
    """Share the token embedding with the output layer."""
    bias: bool = False
    """Bias in linear and layer-norm layers."""
    dropout: Fraction = 0.0
    """Probability of dropping an activation in training."""

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        if value and value not in PRESETS:
            raise ValueError(f"unknown preset {value!r}; known: {', '.join(PRESETS)}")
        return value

    @field_validator("heads")
    @classmethod
    def _heads_divide_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"{heads} heads do not divide width {width}; take a divisor of {width}")
        return heads

    @field_validator("kv_heads")
    @classmethod
    def _kv_heads_divide_heads(cls, kv_heads: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads")
        if kv_heads and heads is not None and heads % kv_heads:
            raise ValueError(f"{kv_heads} key-value heads do not divide {heads} heads; take a divisor of {heads}")
        return kv_heads

    @field_validator("position")
    @classmethod
    def _rope_needs_even_head(cls, position: str, info: ValidationInfo) -> str:
        width, heads = info.data.get("width"), info.data.get("heads")
        if position == "rope" and width and heads and (width // heads) % 2:
            raise ValueError(f"rope needs an even head size, but width {width} / heads {heads} is {width // heads}")
        return position


class TrainSection(Section):
    """How long and how."""

    steps: Interval = 0
    """Optimizer steps to train; 0: by `epochs` or `tokens`, and 1000 if none of the three is given."""
    epochs: float = Field(default=0.0, ge=0.0)
    """Passes over the training corpus; used when `steps` is 0."""
    tokens: Interval = 0
    """Tokens to train on; used when `steps` and `epochs` are 0."""
    batch_size: PositiveInt = 8
    """Sequences per rank and micro-step."""
    accumulate: PositiveInt = 1
    """Micro-steps per optimizer step."""
    grad_clip: float = Field(default=1.0, ge=0.0)
    """Largest global gradient norm; 0: no clipping."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or bf16 autocast with fp32 master weights."""
    compile: bool = False
    """Run the model through torch.compile."""
    deterministic: bool = False
    """Use only deterministic kernels (CPU kernels are; on a GPU it costs speed)."""


class OptimSection(Section):
    """Optimizer and learning-rate schedule."""

    name: Literal["adamw"] = "adamw"
    """Optimizer."""
    lr: float = Field(default=3e-3, gt=0.0, le=10.0)
    """Peak learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0.0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0.0)
    """Decoupled weight decay of matrices; vectors are not decayed."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """Curve after the warmup; wsd holds the peak and falls linearly over the last `decay_fraction`."""
    warmup: Interval = 50
    """Steps of linear warmup from 0."""
    min_lr: float = Field(default=3e-4, ge=0.0)
    """Learning rate at the last step."""
    decay_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of the steps over which wsd decays."""

    @field_validator("betas", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("min_lr")
    @classmethod
    def _min_below_peak(cls, min_lr: float, info: ValidationInfo) -> float:
        lr = info.data.get("lr")
        if lr is not None and min_lr > lr:
            raise ValueError(f"{min_lr} is above the peak learning rate {lr}")
        return min_lr


class ParallelSection(Section):
    """Processes and devices."""

    ranks: Literal["auto"] | PositiveInt = "auto"
    """Processes that train together; auto: one per GPU, or one per CPU core and at most 4."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda|cuda:[0-9]+)$")
    """auto, cpu, cuda (all visible GPUs) or cuda:N (that one)."""
    strategy: Literal["ddp"] = "ddp"
    """How ranks share the work."""
    threads: Literal["auto"] | PositiveInt = "auto"
    """CPU threads per rank; auto: cores // ranks."""


class EvalSection(Section):
    """Evaluation on held-out text."""

    every: Interval = 100
    """Steps between evaluations; 0: only at the end."""
    batches: PositiveInt = 16
    """Batches per evaluation, over all ranks together."""


class SampleSection(Section):
    """Text written by the model while it trains."""

    every: Interval = 200
    """Steps between samples; 0: only at the end."""
    prompt: str = "The "
    """Text to continue."""
    tokens: PositiveInt = 200
    """Tokens to write."""
    temperature: float = Field(default=0.8, ge=0.0, le=10.0)
    """0 takes the most probable token; 1 samples from the model's distribution."""


class CheckpointSection(Section):
    """What is saved, and where."""

    every: Interval = 200
    """Steps between checkpoints; 0: only at the end or on request."""
    keep: PositiveInt = 3
    """Newest checkpoints to keep; named ones are always kept."""
    dir: str = ""
    """Folder of the checkpoints; empty: `checkpoints` in the run folder."""


class ControlSection(Section):
    """What happens when something goes wrong."""

    max_restarts: Interval = 3
    """Restarts after a failed rank before the run gives up."""
    grace_s: float = Field(default=25.0, gt=0.0)
    """Seconds that a stop may take to save before the ranks are killed."""


class MetricsSection(Section):
    """Numbers for other programs."""

    serve: bool = False
    """Serve metrics over HTTP and WebSocket, read-only."""
    address: str = Field(default="127.0.0.1:8081", pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s]+):[0-9]{1,5}$")
    """host:port of that server."""


class UiSection(Section):
    """The terminal UI."""

    chart: Literal["braille", "block", "ascii"] = "braille"
    """Glyphs of the charts."""
    theme: str = "textual-dark"
    """Name of a Textual theme."""


class RunConfig(Section):
    """One run, complete."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    optim: OptimSection = OptimSection()
    parallel: ParallelSection = ParallelSection()
    eval: EvalSection = EvalSection()
    sample: SampleSection = SampleSection()
    checkpoint: CheckpointSection = CheckpointSection()
    control: ControlSection = ControlSection()
    metrics: MetricsSection = MetricsSection()
    ui: UiSection = UiSection()
