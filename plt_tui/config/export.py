"""`[export]`: into which other tools a run's numbers are copied while it trains.

Knows no tool: names are those of installed exporters, or of a plug-in's. Keys and addresses of the tools are no settings of a
run; they stay where each tool looks for them. Invariant: a name can be part of a file's name.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from plt_tui.config.section import Section, as_tuple

EXPORTER_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"
ExporterName = Annotated[str, Field(pattern=EXPORTER_NAME)]


class ExportSection(Section):
    """Copies of the run's numbers in other tools."""

    to: tuple[ExporterName, ...] = ()
    """Where steps, evaluations, samples and alerts are copied to: tensorboard, wandb, trackio, mlflow, or a plug-in's name;
    each has a process of its own, which cannot disturb the run."""
    project: str = ""
    """What the run belongs to there (project, experiment); empty: plt-tui."""

    _lists = field_validator("to", mode="before")(as_tuple)

    @field_validator("to")
    @classmethod
    def _each_once(cls, to: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(to)) < len(to):
            raise ValueError("a list of exporters names each once")
        return to
