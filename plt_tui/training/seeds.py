"""Random streams that need no saved state: each is keyed by what it is for.

Drawing from one stream never moves another, so evaluating, sampling, saving or pausing leaves the next step's loss as it was.
"""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, purpose: str, *place: int) -> int:
    """The seed of the stream for `purpose` at `place` (rank, step, micro-step ...), 0 to 2**63 - 1."""
    key = "/".join([str(seed), purpose, *map(str, place)])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
