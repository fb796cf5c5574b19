"""What ties a run to its past: where its checkpoints lie, and what of its configuration they fix.

Pure; does not look at the disk. Invariant: a configuration that differs from the old one in no fixed key can go on from its
checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plt_tui.config.schema import RunConfig

FIXED_SECTIONS = ("model", "data")
"""They decide what the weights mean; all other sections may change when a run is resumed."""
FREE_KEYS = frozenset({"model.preset", "model.dropout"})
"""A preset is only a name for the keys beside it, and dropout is no part of the shape."""
_PATH_KEYS = frozenset({"data.train", "data.eval", "data.tokenizer"})


def checkpoint_root(config: RunConfig, run_dir: Path) -> Path:
    """Where this run's checkpoints lie: in the run folder, or in a folder of the run's name under `checkpoint.dir`."""
    if not config.checkpoint.dir:
        return run_dir / "checkpoints"
    return Path(config.checkpoint.dir).absolute() / run_dir.name


def changed_past(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The fixed keys ("section.key") in which the two differ, with the old and the new value."""
    before, after = _fixed(old), _fixed(new)
    return {key: (value, after[key]) for key, value in before.items() if _meaning(key, value) != _meaning(key, after[key])}


def _fixed(config: RunConfig) -> Mapping[str, Any]:
    values = config.model_dump(include=set(FIXED_SECTIONS))
    keys = {f"{section}.{key}": value for section in FIXED_SECTIONS for key, value in values[section].items()}
    return {key: value for key, value in keys.items() if key not in FREE_KEYS}


def _meaning(key: str, value: Any) -> Any:
    """Two ways to write the path of one file are no difference."""
    if isinstance(value, tuple):
        return tuple(_meaning(key, part) for part in value)
    return os.path.abspath(value) if key in _PATH_KEYS and value else value  # noqa: PTH100  (`..` is to be resolved by name)
