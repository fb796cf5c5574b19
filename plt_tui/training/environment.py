"""What the bits of a run depend on beside its configuration: versions, machine, threads, code.

Reads, decides nothing. Invariant: built-in values only, ready for JSON.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from plt_tui import __version__
from plt_tui.training.ranks import Ranks


def environment(threads: int, plugins: Sequence[str], ranks: Ranks) -> dict[str, Any]:
    """Versions, device, CPU threads and commit of this process, and the hash of each file given as a plug-in."""
    on_gpu = ranks.device.type == "cuda"
    return {
        "plt_tui": __version__,
        "commit": source_commit(Path(__file__).parents[2]),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": str(numpy.__version__),
        "platform": platform.platform(),
        "threads": threads,
        "device_name": torch.cuda.get_device_name(ranks.device) if on_gpu else platform.machine(),
        "capability": "" if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "plugins": {Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in plugins},
    }


def source_commit(root: Path) -> str:
    """The git commit checked out in `root`, read from its files; empty where there is none, as in an installed package."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next((words[0] for words in packed if words[1:] == [name]), "")
    except OSError:
        return ""
