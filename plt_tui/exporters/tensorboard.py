"""Exporter into event files of TensorBoard, made from its messages alone: neither TensorFlow nor torch is loaded.

Every start begins a file of its own. Where steps come again (after a rewind, a crash, a kill of this process) a SessionLog
START tells readers to drop what they have from there on. Scalars are 32-bit floats, as most programs write and all read them.
Invariant: what lies in the files behind the last flush is cut off before anything is added, so no step is there twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from plt_tui.exporters.base import ExportTarget, Row, RunFacts, eval_values, flat, goes_back, needs
from plt_tui.exporters.notes import Note, note_of
from plt_tui.protocol.events import End, Eval, Event
from plt_tui.protocol.text import safe_text

PREFIX = "events.out.tfevents."
"""Readers take the files of a folder that have this in their names, in the order of the names."""
FILE_VERSION = "brain.Event:2"
"""From this version on readers heed SessionLog."""
HPARAMS_TAG = "_hparams_/session_start_info"
CRC32C_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, reversed: RFC 3720, appendix B.4."""
MASK_DELTA = 0xA282EAD8
"""tensorflow/core/lib/hash/crc32c.h: a checksum is masked, since it may cover other checksums."""


class TensorBoard:
    """One run as event files in one folder."""

    def __init__(self, target: ExportTarget) -> None:
        """Raises: UsageError when TensorBoard is not installed."""
        self._target = target
        self._messages = {name: _messages(name) for name in ("event", "summary", "tensor", "tensor_shape", "types")}
        self._file: BinaryIO | None = None
        self._step = 0

    def open(self, run: RunFacts) -> None:
        """Begin a new file behind what was flushed."""
        folder = self._target.directory
        folder.mkdir(parents=True, exist_ok=True)
        if "file" in self._target.kept:
            _cut(folder / Path(self._target.kept["file"]).name, int(self._target.kept["bytes"]))
        path = folder / next_name([path.name for path in folder.iterdir()], time.time(), socket.gethostname(), os.getpid())
        self._file = path.open("xb")
        self._step = run.step
        self._write(time.time(), 0, file_version=FILE_VERSION)
        self._drop_after(run.step)  # in a new run too: TensorBoard takes the first of these for a start, and heeds the others
        if run.is_new:
            self._write_config(run)
        self._keep()

    def metrics(self, rows: Sequence[Row]) -> None:
        """One message a step."""
        for row in rows:
            self._scalars(row.time, row.step, row.values)
        self._step = rows[-1].step

    def event(self, event: Event) -> None:
        """Evaluations as scalars, samples and notes as text."""
        step = goes_back(event)
        if step is not None and step < self._step:
            self._drop_after(step)
            self._step = step
        if isinstance(event, Eval):
            self._scalars(event.time, event.step, eval_values(event))
        note = note_of(event, self._step)
        if note is not None:
            self._text("sample" if note.kind == "sample" else "notes", note)

    def flush(self) -> None:
        """Everything is on disk."""
        file = self._open_file()
        file.flush()
        os.fsync(file.fileno())
        self._keep()

    def close(self, end: End | None) -> None:
        """Say how it ended, and close the file."""
        note = note_of(end, self._step) if end is not None else None
        if note is not None:
            self._text("notes", note)
        self.flush()
        self._open_file().close()

    def _open_file(self) -> BinaryIO:
        assert self._file is not None, "open comes first"
        return self._file

    def _keep(self) -> None:
        file = self._open_file()
        self._target.keep("file", Path(file.name).name)
        self._target.keep("bytes", str(file.tell()))

    def _drop_after(self, step: int) -> None:
        """Readers forget what lies behind `step`."""
        log = self._messages["event"].SessionLog
        self._write(time.time(), step + 1, session_log=log(status=log.START))

    def _scalars(self, wall_time: float, step: int, values: Mapping[str, float]) -> None:
        summary = self._messages["summary"].Summary
        scalars = [summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(wall_time, step, summary=summary(value=scalars))

    def _text(self, tag: str, note: Note) -> None:
        self._write(note.time, note.step, summary=self._text_summary(tag, f"**{note.title}**\n\n{_verbatim(note.text)}"))

    def _text_summary(self, tag: str, markdown: str) -> Any:
        shapes, tensors = self._messages["tensor_shape"].TensorShapeProto, self._messages["tensor"].TensorProto
        shape = shapes(dim=[shapes.Dim(size=1)])
        text = tensors(dtype=self._messages["types"].DT_STRING, tensor_shape=shape, string_val=[markdown.encode()])
        return self._plugin_summary(tag, "text", text)

    def _plugin_summary(self, tag: str, plugin: str, tensor: Any, content: bytes = b"") -> Any:
        messages = self._messages["summary"]
        data = messages.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
        metadata = messages.SummaryMetadata(plugin_data=data)
        return messages.Summary(value=[messages.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

    def _write_config(self, run: RunFacts) -> None:
        """The configuration as text, and as hyperparameters, by which TensorBoard compares runs."""
        values = flat(run.run.config)
        lines = safe_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
        self._write(run.started_at, 0, summary=self._text_summary("config", _verbatim(lines)))
        plugin = _tool("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData(version=0)
        plugin.session_start_info.start_time_secs = run.started_at
        for name, value in values.items():
            entry = plugin.session_start_info.hparams[name]
            match value:
                case bool():
                    entry.bool_value = value
                case int() | float():
                    entry.number_value = value
                case _:
                    entry.string_value = value if isinstance(value, str) else json.dumps(value)
        nothing = self._messages["tensor"].TensorProto(dtype=self._messages["types"].DT_FLOAT, float_val=[0.0])
        content = plugin.SerializeToString()
        self._write(run.started_at, 0, summary=self._plugin_summary(HPARAMS_TAG, "hparams", nothing, content))

    def _write(self, wall_time: float, step: int, **what: Any) -> None:
        event = self._messages["event"].Event(wall_time=wall_time, step=step, **what)
        self._open_file().write(record(event.SerializeToString()))


def record(data: bytes) -> bytes:
    """`data` as a record of an event file: length, checksum of the length, data, checksum of the data."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of `data`, masked as event files want it."""
    table, crc = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def next_name(present: Sequence[str], now: float, host: str, pid: int) -> str:
    """A name that comes behind those of all event files in `present`, however many begin within one second."""
    seconds = [int(now)]
    for name in present:
        with contextlib.suppress(ValueError):
            seconds.append(int(name.removeprefix(PREFIX).partition(".")[0]) + 1)
    return f"{PREFIX}{max(seconds):010d}.{host}.{pid}"


def _verbatim(text: str) -> str:
    """`text` as Markdown that shows it as it is."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _cut(path: Path, size: int) -> None:
    """Remove what was written behind the last flush: it comes again."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > size:
            os.truncate(path, size)


@cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (CRC32C_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def _messages(name: str) -> Any:
    return _tool(f"tensorboard.compat.proto.{name}_pb2")


def _tool(module: str) -> Any:
    return needs(module, "tensorboard", "tensorboard")
