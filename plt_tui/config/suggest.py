"""What to say about a section or key that does not exist: the name the user probably meant.

Knows spelling, the other sections, and the names that other trainers use for the same thing. Reads nothing and raises nothing.
Invariant: every suggestion is an existing section or key.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from plt_tui.config.fields import describe, listed
from plt_tui.config.schema import RunConfig

SECTIONS: tuple[str, ...] = tuple(RunConfig.model_fields)

FOREIGN_NAMES: Mapping[str, str] = {
    "block_size": "data.context",
    "context_length": "data.context",
    "max_seq_len": "data.context",
    "seq_len": "data.context",
    "dataset": "data.train",
    "n_layer": "model.layers",
    "num_layers": "model.layers",
    "n_head": "model.heads",
    "num_heads": "model.heads",
    "n_embd": "model.width",
    "hidden_size": "model.width",
    "d_model": "model.width",
    "max_iters": "train.steps",
    "max_steps": "train.steps",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "gradient_accumulation_steps": "train.accumulate",
    "max_grad_norm": "train.grad_clip",
    "dtype": "train.precision",
    "learning_rate": "optim.lr",
    "beta1": "optim.betas",
    "beta2": "optim.betas",
    "lr_scheduler_type": "optim.schedule",
    "warmup_iters": "optim.warmup",
    "warmup_steps": "optim.warmup",
    "world_size": "parallel.ranks",
    "eval_interval": "eval.every",
    "eval_iters": "eval.batches",
    "out_dir": "run.dir",
    "output_dir": "run.dir",
}
"""Names in nanoGPT's, Hugging Face's and torchtitan's configs, and ours for the same thing."""


def unknown_section(section: str) -> str:
    """What is wrong with `[section]`, which does not exist."""
    close = get_close_matches(section.lower(), SECTIONS, n=1)
    return f"unknown section; did you mean [{close[0]}]?" if close else f"unknown section; known: {', '.join(SECTIONS)}"


def unknown_key(section: str, key: str, *, dotted: bool = False) -> str:
    """What is wrong with `key`, which `section` (an existing one, or "") does not have.

    A likely key of another section is written `[optim] lr`, or `optim.lr` when `dotted`.
    """
    names = [_reference(name, section, dotted) for name in likely(section, key)]
    if names:
        return f"unknown key; did you mean {listed(names)}?"
    if section not in SECTIONS:
        return f"unknown key; give it in a section: {', '.join(SECTIONS)}"
    known = [field.key for field in describe().values() if field.section == section]
    return f"unknown key; known here: {', '.join(known)}"


def likely(section: str, key: str) -> list[str]:
    """The "section.key" names that the user may have meant, at most three; surest evidence first, and only the surest kind."""
    wanted = key.lower().replace("-", "_")
    names = list(describe())
    own = {name.partition(".")[2]: name for name in names if name.startswith(f"{section}.")}
    if wanted in own:
        return [own[wanted]]
    elsewhere = [name for name in names if name.partition(".")[2] == wanted]
    if elsewhere:
        return elsewhere[:3]
    if wanted in FOREIGN_NAMES:
        return [FOREIGN_NAMES[wanted]]
    close = get_close_matches(wanted, own, n=1)
    if close:
        return [own[close[0]]]
    keys = get_close_matches(wanted, {name.partition(".")[2] for name in names}, n=1, cutoff=0.7)
    return [name for name in names if name.partition(".")[2] in keys][:3]


def _reference(name: str, section: str, dotted: bool) -> str:
    other, _, key = name.partition(".")
    if dotted:
        return name
    return f'"{key}"' if other == section else f"[{other}] {key}"
