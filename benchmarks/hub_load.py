"""A hub's memory after a long run, in a process that has imported what a hub imports and nothing else.

A program of its own, `python -m benchmarks.hub_load STEPS`: it tells a feed what a run of so many steps says with the intervals
of the quick start, then lets one view attach. Prints {"rss_bytes", "peak_bytes"}: at the end of the run, and the highest ever.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

import plt_tui.cli.hub
import plt_tui.control.gauges
import plt_tui.control.hub
import plt_tui.server.http
import plt_tui.server.unix  # noqa: F401  (all of them for their weight: what `serve_run` imports)
from plt_tui.config.schema import RunConfig
from plt_tui.control.feed import LOG_LINES, Feed
from plt_tui.protocol.events import Checkpoint, Eval, Event, Logs, Run, Sample, Step
from plt_tui.protocol.framing import encode
from plt_tui.server.stream import Reader

LOG_TEXT = "a line of a rank's log, as long as one that a library writes when it has something to say"
TOKENS_PER_STEP = 2048


def main() -> None:
    """Feed, measure, attach, measure, print."""
    parser = argparse.ArgumentParser(prog="benchmarks.hub_load")
    parser.add_argument("steps", type=int)
    steps = parser.parse_args().steps
    feed = Feed()
    for seq, event in enumerate(_told(steps), start=1):
        feed.publish(event if isinstance(event, Logs) else replace(event, seq=seq))
    assert len(feed.history) == steps
    rss_bytes = psutil.Process().memory_info().rss
    _attach(feed)
    print(json.dumps({"rss_bytes": rss_bytes, "peak_bytes": _peak_bytes()}))


def _told(steps: int) -> Iterator[Event]:
    """What a hub hears from the ranks of a run."""
    config = RunConfig()
    yield Run(time=1.0, name="bench", dir="runs/bench", world_size=2, params=1_000_000, target_step=steps)
    yield Logs(lines=[[float(line), "rank 0", "INFO", f"{line} {LOG_TEXT}"] for line in range(LOG_LINES)])
    for step in range(1, steps + 1):
        now, loss = 1.0 + step * 0.05, 8.0 / step**0.2
        yield Step(
            time=now,
            step=step,
            loss=loss,
            lr=1e-3,
            grad_norm=0.5,
            tokens=step * TOKENS_PER_STEP,
            tokens_per_s=40_000.0 + step % 7,
            step_ms=50.0,
        )
        if step % config.eval.every == 0:
            yield Eval(time=now, step=step, loss=loss, perplexity=3.0, bits_per_byte=1.5, accuracy=0.5)
        if step % config.sample.every == 0:
            yield Sample(time=now, step=step, prompt=config.sample.prompt, text=f"{step} ".ljust(config.sample.tokens, "x"))
        if step % config.checkpoint.every == 0:
            yield Checkpoint(
                time=now, step=step, path=f"checkpoints/step-{step:08d}", bytes=10**7, weights_sha256=f"{step:064x}"
            )


def _attach(feed: Feed) -> None:
    """Send the history as the socket does: batch by batch, encoded."""
    reader = Reader(feed)
    while batch := reader.read():
        for event in batch:
            encode(event)


def _peak_bytes() -> int:
    """The most memory that this program has had; getrusage(2) would tell that of the process which started it, were it more."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])  # proc(5): in kB


if __name__ == "__main__":
    main()
