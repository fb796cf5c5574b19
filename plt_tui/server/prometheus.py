"""The newest numbers of a run in Prometheus' text format.

Names and units follow https://prometheus.io/docs/practices/naming/: base units (seconds, bytes, ratios of 0 to 1), one meaning
per name. Made from the state at each scrape, never collected in between. Invariant: what is not known is left out, not 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from plt_tui.control.state import RunState
from plt_tui.protocol.events import RunPhase

Sample = tuple[dict[str, str], float]
"""Labels beside `run`, and the value."""
Gauge = tuple[str, str, list[Sample]]
"""Name without the prefix, help, samples."""


def exposition(state: RunState, name: str) -> bytes:
    """The scrape of the run called `name`, UTF-8 text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_RunCollector(state, name))
    return generate_latest(registry)


class _RunCollector(Collector):
    def __init__(self, state: RunState, name: str) -> None:
        self._state = state
        self._name = name

    def collect(self) -> Iterator[Metric]:
        state = self._state
        yield self._info()
        for name, text, count in _counts(state):
            family = CounterMetricFamily(f"plt_tui_{name}", text, labels=("run",))
            family.add_metric((self._name,), count)
            yield family
        for gauge in chain(_run(state), _last_step(state), _evaluation(state), _ranks(state), _machine(state)):
            yield from self._family(*gauge)

    def _info(self) -> Metric:
        run = self._state.run
        facts = {"run": self._name}
        if run is not None:
            facts |= {"device": run.device, "world_size": str(run.world_size), "params": str(run.params)}
        return InfoMetricFamily("plt_tui_run", "The run.", facts)

    def _family(self, name: str, text: str, samples: list[Sample]) -> Iterator[Metric]:
        if samples:
            family = GaugeMetricFamily(f"plt_tui_{name}", text, labels=("run", *samples[0][0]))
            for labels, value in samples:
                family.add_metric((self._name, *labels.values()), value)
            yield family


def _counts(state: RunState) -> Iterator[tuple[str, str, int]]:
    yield "restarts", "Restarts after a failed rank.", state.restarts
    yield "spikes", "Steps that the guard found out of line, on all branches.", state.num_spikes
    yield "guard_acts", "How often the guard did more than warn, on all branches.", state.guard_acts


def _one(name: str, text: str, value: float) -> Gauge:
    return name, text, [({}, value)]


def _run(state: RunState) -> Iterator[Gauge]:
    phases = [({"phase": phase}, float(phase == state.phase)) for phase in get_args(RunPhase)]
    yield "run_phase", "1 for what the run does now, 0 for the others.", phases
    yield _one("step", "Completed optimizer steps.", state.step)
    yield _one("branches", "Branches that rewinds have left.", len(state.branches))
    if state.run is not None:
        yield _one("target_step", "Step at which the run is finished.", state.run.target_step)
    if state.eta_s is not None and not state.is_over:
        yield _one("eta_seconds", "Time to the target at the present pace.", state.eta_s)
    if state.checkpoints:
        yield _one("checkpoint_step", "Step of the newest checkpoint.", state.checkpoints[-1].step)


def _last_step(state: RunState) -> Iterator[Gauge]:
    step = state.last_step
    if step is None:
        return
    yield _one("train_loss", "Training loss of the last step, nats per token.", step.loss)
    yield _one("learning_rate", "Learning rate of the last step.", step.lr)
    yield _one("gradient_norm", "Global gradient norm of the last step before clipping.", step.grad_norm)
    yield _one("tokens", "Tokens trained on since step 0.", step.tokens)
    if state.utilisation is not None:
        yield _one("model_flops_utilization_ratio", "Model FLOPs of the last step over the devices' peak.", state.utilisation)
    yield _one("tokens_per_second", "Throughput of all ranks in the last step.", step.tokens_per_s)
    yield _one("step_duration_seconds", "Duration of the last step.", step.step_ms / 1000)
    yield _one("data_wait_seconds", "Time that the last step waited for data.", step.data_ms / 1000)


def _evaluation(state: RunState) -> Iterator[Gauge]:
    last = state.last_eval
    if last is None:
        return
    yield _one("eval_step", "Step of the last evaluation.", last.step)
    yield _one("eval_loss", "Loss on held-out text, nats per token.", last.loss)
    yield _one("eval_perplexity", "Perplexity on held-out text.", last.perplexity)
    yield _one("eval_bits_per_byte", "Bits per byte of held-out text.", last.bits_per_byte)
    yield _one("eval_accuracy_ratio", "Share of next tokens guessed right, 0 to 1.", last.accuracy)


def _ranks(state: RunState) -> Iterator[Gauge]:
    ranks = [({"rank": str(rank.rank)}, rank) for _, rank in sorted(state.ranks.items())]
    yield "rank_step", "Completed steps of each rank.", [(labels, rank.step) for labels, rank in ranks]
    durations = [(labels, rank.step_ms / 1000) for labels, rank in ranks]
    yield "rank_step_duration_seconds", "Duration of each rank's last step.", durations
    waits = [(labels, rank.data_ms / 1000) for labels, rank in ranks]
    yield "rank_data_wait_seconds", "Time that each rank's last step waited for data.", waits
    yield "rank_memory_bytes", "Memory of each rank.", [(labels, rank.memory_bytes) for labels, rank in ranks]


def _machine(state: RunState) -> Iterator[Gauge]:
    machine = state.gauges
    if machine is None:
        return
    cores = [({"core": str(core)}, percent / 100) for core, percent in enumerate(machine.cores)]
    yield "cpu_utilization_ratio", "Use of each CPU core, 0 to 1.", cores
    yield _one("memory_used_bytes", "Memory in use on the machine.", machine.memory_used_bytes)
    yield _one("memory_total_bytes", "Memory of the machine.", machine.memory_total_bytes)
    yield "gpu_utilization_ratio", "Use of each GPU, 0 to 1.", _gpus(machine.gpus, "utilisation", 100)
    yield "gpu_memory_used_bytes", "Memory in use on each GPU.", _gpus(machine.gpus, "memory_used_bytes")
    yield "gpu_memory_total_bytes", "Memory of each GPU.", _gpus(machine.gpus, "memory_total_bytes")
    yield "gpu_temperature_celsius", "Temperature of each GPU.", _gpus(machine.gpus, "temperature_c")
    yield "gpu_power_watts", "Power drawn by each GPU.", _gpus(machine.gpus, "power_w")


def _gpus(gpus: list[dict[str, Any]], key: str, divisor: float = 1) -> list[Sample]:
    return [({"gpu": str(gpu["index"])}, gpu[key] / divisor) for gpu in gpus if gpu.get(key) is not None]
