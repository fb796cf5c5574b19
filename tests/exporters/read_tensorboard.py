"""What TensorBoard reads in a folder, as JSON: `python read_tensorboard.py FOLDER`. In a process of its own: it is large.

By the reader that scripts use (it shows no text), and by that of TensorBoard itself, which must show the same scalars.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

EVERYTHING = {"scalars": 0, "tensors": 0}


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("kind"))


def main() -> None:
    """Read, and print."""
    found = EventAccumulator(sys.argv[1], size_guidance=EVERYTHING).Reload()
    scalars = {
        tag: [[event.step, event.value, event.wall_time] for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }
    board = plugin_event_accumulator.EventAccumulator(sys.argv[1], size_guidance=EVERYTHING).Reload()
    for tag, rows in scalars.items():
        seen = [[event.step, make_ndarray(event.tensor_proto).item(), event.wall_time] for event in board.Tensors(tag)]
        assert repr(seen) == repr(rows), tag
    texts = {
        tag: [[event.step, make_ndarray(event.tensor_proto).item().decode()] for event in board.Tensors(tag)]
        for tag in board.PluginTagToContent("text")
    }
    data = HParamsPluginData.FromString(board.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    hparams = {name: _value(value) for name, value in data.session_start_info.hparams.items()}
    print(json.dumps({"scalars": scalars, "texts": texts, "hparams": hparams}))


if __name__ == "__main__":
    main()
