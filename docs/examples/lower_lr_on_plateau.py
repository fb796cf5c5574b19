"""Lower the learning rate of a live run whenever its loss stands still.

    python docs/examples/lower_lr_on_plateau.py quickstart --window 200 --least 0.01 --factor 0.5

The loss stands still when its mean over the last WINDOW steps is not below that over the WINDOW steps before by the share
LEAST. After a change, whoever made it, it has twice WINDOW steps to fall again. Ends with the run, or after TIMES changes.
"""

# ruff: noqa: T201  (what a script prints is its result)
from __future__ import annotations

import argparse
import asyncio
import sys

import numpy as np

import plt_tui


def stands_still(history: plt_tui.History, since: int, window: int, least: float) -> bool:
    """True when the loss of the steps from `since` on has stopped falling."""
    loss = history.loss[np.searchsorted(history.step, since) :]
    if len(loss) < 2 * window:
        return False
    before, now = loss[-2 * window : -window].mean(), loss[-window:].mean()
    return bool(now > before * (1 - least))


async def watch(options: argparse.Namespace) -> None:
    """Follow the run and lower its rate, at most `options.times` times."""
    async with plt_tui.connect(options.run, directory=options.directory, actor="lower_lr_on_plateau") as run:
        num_lowered = 0
        async for _ in run.events(plt_tui.events.Steps):
            last_edit = max((edit.step for edit in run.state.edits), default=1)
            if not stands_still(run.history, last_edit, options.window, options.least):
                continue
            applied = await run.set("lr", options.factor, mode="scale")
            print(f"step {applied.step}: lr {applied.before:.3g} -> {applied.after:.3g}", flush=True)
            num_lowered += 1
            if num_lowered == options.times:
                return
        print(f"the run has ended at step {run.state.step}")


def main() -> None:
    """Read the options and watch."""
    parser = argparse.ArgumentParser(description="Lower the learning rate of a live run whenever its loss stands still.")
    parser.add_argument("run", help="name of a live run")
    parser.add_argument("--directory", default="runs", help="folder that holds the runs")
    parser.add_argument("--window", type=int, default=200, help="steps whose mean loss is compared")
    parser.add_argument("--least", type=float, default=0.01, help="share by which the mean must fall")
    parser.add_argument("--factor", type=float, default=0.5, help="factor of the learning rate")
    parser.add_argument("--times", type=int, default=3, help="changes to make at most")
    try:
        asyncio.run(watch(parser.parse_args()))
    except plt_tui.PltTuiError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
