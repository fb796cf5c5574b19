"""Exports to TensorBoard and dies on the way: `python -m tests.exporters.export_and_die RUN_DIR beat|place NUMBER BATCH`.

As by SIGKILL, at the NUMBER-th sign of life or before the NUMBER-th time that the place is written; BATCH events come at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from plt_tui.control.folder import RunFolder
from plt_tui.exporters import copy, tail
from plt_tui.exporters.place import Place
from plt_tui.exporters.tensorboard import TensorBoard
from tests.exporters.records import run_through

EXIT_CODE = 9


class _Countdown:
    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os._exit(EXIT_CODE)


def main() -> None:
    """Export, and never come back."""
    run_dir, what, number, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    die, write = _Countdown(number), copy.write_place

    def write_or_die(path: Path, place: Place) -> None:
        die()
        write(path, place)

    tail.BATCH_EVENTS = batch
    if what == "place":
        copy.write_place = write_or_die
    exports = run_dir / "exports"
    exports.mkdir(exist_ok=True)
    beat = die if what == "beat" else lambda: None
    place = exports / "tensorboard.json"
    run_through(
        copy.Copy(TensorBoard, RunFolder(run_dir), place, directory=exports / "tensorboard", project="p", beat=beat)
    ).finish()


if __name__ == "__main__":
    main()
