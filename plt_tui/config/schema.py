"""What a user can ask for: one frozen model per TOML section, every field with its meaning, unit and default.

The defaults are the quick start: `plt-tui run` without a file trains a small model on the built-in corpus. Reading files and
options is `load`'s work; nothing here touches the disk. Invariant: a RunConfig that exists is valid.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from plt_tui.config.alerts import AlertsSection
from plt_tui.config.export import ExportSection
from plt_tui.config.presets import preset
from plt_tui.config.section import Section as Section
from plt_tui.config.section import as_tuple

DEFAULT_STEPS = 1000
"""Length of a run whose config names neither steps nor epochs nor tokens."""
LARGEST = 2**53
"""Integers up to here are exact as float64, in which histories keep them."""
PositiveInt = Annotated[int, Field(ge=1, le=LARGEST)]
Interval = Annotated[int, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
CorpusName = Annotated[str, Field(min_length=1)]


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

    train: CorpusName | tuple[CorpusName, ...] = "builtin:python-docs"
    """Training corpus: a file, a folder, a glob, `builtin:python-docs`, `builtin:python-source` or `plugin:NAME`; or a list of
    such, mixed by `weights`."""
    weights: tuple[Annotated[float, Field(gt=0.0)], ...] = ()
    """Share of the training sequences that each corpus of a list gives, in any scale; empty: as large as the corpora are."""
    eval: str = ""
    """Held-out corpus; empty: the last `eval_fraction` of each training corpus."""
    eval_fraction: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the training corpus held out when `eval` is empty."""
    format: Literal["auto", "text", "jsonl", "parquet", "tokens"] = "auto"
    """How to read the files; auto goes by their endings (.jsonl, .parquet, .bin and .npy hold JSON lines, rows and token ids;
    .gz and .zst are unpacked)."""
    text_field: str = "text"
    """Field of a JSON line, or column of a Parquet file, that holds the text."""
    token_dtype: Literal["uint16", "uint32"] = "uint16"
    """Type of the ids in a `.bin` file."""
    tokenizer: str = Field(default="byte", min_length=1)
    """`byte`, `char`, `bpe` (trained on the corpus), or a path: a `tokenizer.json`, or tiktoken's ranks (`*.tiktoken`)."""
    vocab_size: int = Field(default=4096, ge=257, le=2**31)
    """Size of the vocabulary that `bpe` learns, or that `tokens` files use."""
    context: int = Field(default=128, ge=1)
    """Tokens that the model sees at once."""
    packing: Literal["concatenate", "best_fit"] = "concatenate"
    """concatenate: windows over the joined documents; best_fit: windows that begin with a document and hold whole ones."""

    _lists = field_validator("train", "weights", mode="before")(as_tuple)

    @property
    def corpora(self) -> tuple[str, ...]:
        """The training corpora, one or more."""
        return (self.train,) if isinstance(self.train, str) else self.train

    @field_validator("train")
    @classmethod
    def _some_corpora(cls, train: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not train or (isinstance(train, tuple) and len(set(train)) < len(train)):
            raise ValueError("a list of corpora names at least one, and each once")
        return train

    @field_validator("weights")
    @classmethod
    def _weight_per_corpus(cls, weights: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        train = info.data.get("train")
        num_corpora = 1 if isinstance(train, str) else len(train or ())
        if weights and train and len(weights) != num_corpora:
            raise ValueError(f"{len(weights)} weights for {num_corpora} corpora in train; give one for each, or none")
        return weights


class ModelSection(Section):
    """The shape of the decoder-only transformer."""

    preset: str = ""
    """Named shape, or `depth:N`, whose values are used for every key not given here."""
    arch: str = Field(default="transformer", min_length=1)
    """`transformer`, or a plug-in's model as `NAME` or `NAME:ARGUMENT`."""
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
    norm_eps: float = Field(default=1e-5, gt=0.0, le=0.1)
    """Added to the variance (layernorm) or mean square (rmsnorm)."""
    position: Literal["rope", "learned", "none"] = "rope"
    """How positions enter: rotary embedding, learned table, or not at all."""
    rope_base: float = Field(default=10_000.0, gt=0.0)
    """Base of the rotary angles' wavelengths."""
    activation: Literal["relu2", "gelu", "swiglu"] = "relu2"
    """Feed-forward non-linearity."""
    qk_norm: bool = True
    """Normalise queries and keys per head."""
    window: int = Field(default=0, ge=0)
    """Positions that a short layer attends to, its own included; 0: all earlier ones."""
    window_pattern: str = Field(default="SSSL", pattern=r"^[SL]+$")
    """Which layers are short (S) and long (L), repeated over the layers; the last one is always long."""
    softcap: float = Field(default=0.0, ge=0.0)
    """Logits x become softcap * tanh(x / softcap); 0: as they are."""
    init: Literal["auto", "gpt2", "zero_projection"] = "auto"
    """Initial values: GPT-2's small normal with residual scaling, or by fan-in with zero residual projections; auto: gpt2 for
    tied embeddings or learned positions."""
    tie_embeddings: bool = False
    """Share the token embedding with the output layer."""
    bias: bool = False
    """Bias in linear and layer-norm layers."""
    dropout: Fraction = 0.0
    """Probability of dropping an activation in training."""

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        preset(value)
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
    embedding_grad_scale: float = Field(default=1.0, ge=0.0, le=1.0)
    """Factor of the gradient that reaches the token embedding by its lookup; GLM-130B trained stably with 0.1."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16 (with loss scaling) over fp32 master weights."""
    tf32: bool = True
    """Let a GPU multiply fp32 matrices in TF32 (10 bits of mantissa)."""
    compile: bool = False
    """Run the model through torch.compile."""
    activation_checkpointing: bool = False
    """Keep only each block's input and compute the rest again in the backward pass: less memory, about a third more time."""
    deterministic: bool = False
    """Use only deterministic kernels (CPU kernels are; on a GPU it costs speed)."""
    init_from: str = ""
    """Weights to start from: a checkpoint, run, export or Hugging Face folder, or a file; it also gives the shape."""


class OptimSection(Section):
    """Optimizer and learning-rate schedule."""

    name: Literal["adamw", "muon", "lion", "sgd"] = "adamw"
    """Optimizer; muon orthogonalises the updates of the blocks' matrices and leaves all else to AdamW."""
    lr: float = Field(default=3e-3, gt=0.0, le=10.0)
    """Peak learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decay rates of the first and second moment."""
    momentum: Fraction = 0.95
    """Momentum (Nesterov's) of muon's matrices and of sgd."""
    matrix_lr_scale: float = Field(default=1.0, gt=0.0)
    """Factor of the learning rate for the matrices that muon updates."""
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

    _lists = field_validator("betas", mode="before")(as_tuple)

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
    timeout_s: float = Field(default=120.0, ge=1.0)
    """Seconds that a rank waits for another in a collective before it fails, where no hub looks for hangs (control.hang_s)."""


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
    top_k: Interval = 0
    """Draw from this many most probable tokens only; 0: from all."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Draw from the fewest tokens whose probabilities reach this sum."""


class CheckpointSection(Section):
    """What is saved, and where."""

    every: Interval = 200
    """Steps between checkpoints; 0: only at the end or on request."""
    keep: PositiveInt = 3
    """Newest checkpoints to keep; named ones are always kept."""
    dir: str = ""
    """Folder of the checkpoints; empty: `checkpoints` in the run folder."""
    recent: Interval = 5
    """States kept in memory beside those on disk, to which a rewind goes back at once; 0: none."""
    recent_every: PositiveInt = 25
    """Steps between them."""
    recent_mb: PositiveInt = 512
    """Most memory that they may take on each rank, in MiB; as many are kept as fit."""


class GuardSection(Section):
    """What happens by itself when a step goes wrong. All ranks decide alike, and every act is recorded."""

    non_finite: Literal["skip", "lower", "rewind", "stop"] = "stop"
    """When the loss or a gradient is NaN or infinite. Such an update is never applied; skip: go on with the next batch; lower:
    also multiply the learning rate by `factor`; rewind: go back `back` steps and leave out `leave_out` batches; stop: end the
    run with exit code 3."""
    spike: Literal["off", "warn", "skip", "lower", "rewind", "stop"] = "warn"
    """When loss or gradient norm lies `z` standard deviations above its mean over the last `window` steps; skip leaves the
    update out, for which all ranks wait for each other before every update."""
    z: float = Field(default=6.0, gt=0.0)
    """Standard deviations above the mean that make a spike, of the loss or of the gradient norm."""
    window: int = Field(default=128, ge=8, le=100_000)
    """Steps that a new one is compared with; the first half of them must be there before anything is a spike."""
    factor: float = Field(default=0.5, gt=0.0, lt=1.0)
    """What `lower` multiplies the learning rate by, from the next step on."""
    back: PositiveInt = 100
    """Steps that `rewind` goes back at least: to the newest state that is kept by then, in memory, on disk or the start."""
    leave_out: PositiveInt = 200
    """Global batches that `rewind` leaves out."""
    cooldown: Interval = 50
    """Steps after an act in which a spike only warns."""
    limit: Interval = 10
    """Acts allowed in a run; one more ends it with exit code 3."""


class ControlSection(Section):
    """What happens when something goes wrong."""

    max_restarts: Interval = 3
    """Restarts after failed ranks, without a checkpoint of a later step in between, before the run gives up."""
    hang_s: float = Field(default=60.0, ge=0.0)
    """Seconds without progress after which a rank counts as hung and all are started again; ten median steps where those are
    longer; 0: never."""
    start_s: float = Field(default=600.0, gt=0.0)
    """The same for a rank that has not made its first step: imports and compilation take their time."""
    grace_s: float = Field(default=25.0, gt=0.0)
    """Seconds that a stop may take to save before the ranks are killed."""


class MetricsSection(Section):
    """Numbers for other programs."""

    serve: bool = False
    """Serve the run over HTTP: a page for browsers, JSON, a WebSocket and Prometheus text; read-only without `control`."""
    log_every: Interval = 10
    """Steps between lines about progress in rank 0's log; 0: none."""
    address: str = Field(default="127.0.0.1:8081", pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\s]+):[0-9]{1,5}$")
    """host:port of that server. What other machines can reach needs `token`."""
    token: bool = False
    """Answer only who has the run's token: a new one for each start, in the file http-token of the run's folder."""
    control: bool = False
    """Take commands over HTTP too, such as pause and stop; from who has the token only."""

    @property
    def needs_token(self) -> bool:
        """True when who asks must have the run's token."""
        return self.token or self.control


class UiSection(Section):
    """The terminal UI."""

    chart: Literal["braille", "block", "ascii"] = "braille"
    """Glyphs of the charts."""
    theme: str = "auto"
    """Name of a Textual theme, such as "nord"; auto: dark or light as the terminal is, and its own colours where it has 16."""
    palette: Literal["default", "okabe-ito", "mono"] = "default"
    """Colours of the curves; okabe-ito can be told apart by the colour-blind, mono needs no colour."""
    low_bandwidth: bool = False
    """Send at most 5 KB/s to the terminal, for slow connections."""


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
    guard: GuardSection = GuardSection()
    control: ControlSection = ControlSection()
    alerts: AlertsSection = AlertsSection()
    metrics: MetricsSection = MetricsSection()
    export: ExportSection = ExportSection()
    ui: UiSection = UiSection()
