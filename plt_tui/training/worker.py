"""The first code of a rank that knows training: it says what it is doing, loads torch, builds everything and runs the loop.

torch is imported inside `main`, so that the hub hears from the rank before it. Invariant: however the rank ends, the hub is
told `Done` or `Failed`, or the process was killed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui import failpoints
from plt_tui.config.edits import edits_from, edits_to
from plt_tui.config.load import from_toml
from plt_tui.config.past import checkpoint_root
from plt_tui.errors import PeerFailed, PltTuiError, RankFailed
from plt_tui.plugins import Plugins
from plt_tui.protocol.events import Alert, Done, Failed, Progress, Run
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.rank import RankSpec
from plt_tui.protocol.text import safe_line, safe_text
from plt_tui.training.status import StatusReporter

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.data.tokenizer import Tokenizer
    from plt_tui.model.peak import Peak
    from plt_tui.training.resume import Resumed
    from plt_tui.training.trainer import Trainer

log = logging.getLogger("plt_tui")

PATIENT_S = 30 * 86400.0
"""Longer than anybody stops a run for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """One rank with everything built, and the checkpoint it continues from loaded."""

    spec: RankSpec
    link: RankEnd
    status: StatusReporter
    trainer: Trainer
    resumed: Resumed
    root: Path
    """Folder of the checkpoints."""


def main(spec: RankSpec, link: RankEnd) -> int:
    """Run one rank of a session to its end. Returns the process's exit code."""
    return run_rank(spec, link, _session)


def run_rank(spec: RankSpec, link: RankEnd, body: Callable[[Ready], Done]) -> int:
    """Build what `spec` asks for, let `body` work with it, and tell the hub how it ended. Returns the process's exit code."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    with StatusReporter(link, spec.rank, spec.device) as status:
        try:
            status.say("importing torch")
            failpoints.reach("rank", spec.rank, "importing")
            _build(spec, link, status, body)
        except PltTuiError as error:
            log.error("%s", safe_text(str(error)))
            link.send(_failure(spec, status.step, error, error.exit_code, str(error)))
            return 1
        except Exception as error:  # noqa: BLE001  (the border of the process: every failure becomes one Failed event)
            message = _out_of_memory(error, spec) if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
            log.error("%s", safe_text(traceback.format_exc()))
            link.send(_failure(spec, status.step, error, RankFailed.exit_code, message))
            return 1
    return 0


def _session(ready: Ready) -> Done:
    """Train as the configuration and the commands say."""
    from plt_tui.training.saver import Saver
    from plt_tui.training.session import Session

    spec, config, known = ready.spec, ready.trainer.config, ready.resumed.own_folder(ready.root)
    link, keep = ready.link, config.checkpoint.keep
    saver = Saver(ready.root, Path(spec.run_dir), keep, link.send, resumed_from=known, receipt=link.receipt)
    session = Session(
        ready.trainer,
        ready.link,
        ready.status,
        saver,
        paused=spec.paused,
        known_step=spec.known_step,
        guard_acts=spec.guard_acts,
    )
    return session.run()


def _build(spec: RankSpec, link: RankEnd, status: StatusReporter, body: Callable[[Ready], Done]) -> None:
    with _without_collections():
        import torch

        from plt_tui.data.prepare import prepare
        from plt_tui.training.ranks import joined
        from plt_tui.training.resume import resume
        from plt_tui.training.trainer import Trainer

    config = from_toml((Path(spec.run_dir) / "config.toml").read_text())
    plugins = Plugins(spec.plugins)
    torch.set_num_threads(spec.threads)
    if spec.device.startswith("cuda"):
        status.measure_memory = lambda: torch.cuda.memory_allocated(spec.device)

    def progress(task: str, done: float, total: float, unit: str) -> None:
        status.say(task)
        if spec.rank == 0:
            link.send(Progress(time=time.time(), task=task, done=done, total=total, unit=unit))

    status.say("preparing data")
    failpoints.reach("rank", spec.rank, "preparing")
    dataset = prepare(config.data, plugins=plugins, on_progress=progress)
    status.say("meeting the other ranks")
    try:
        place = (spec.rank, spec.world_size, spec.device, Path(spec.meeting_file))
        with joined(*place, timeout_s=_patience_s(config), pulse=status.pulse) as ranks:
            status.say("building the model")
            failpoints.reach("rank", spec.rank, "building")
            with _without_collections():  # DDP imports the compiler
                trainer = Trainer(config, dataset=dataset, ranks=ranks, plugins=plugins)
            trainer.edits = edits_from(spec.edits)
            root = checkpoint_root(config, Path(spec.run_dir))
            resumed = resume(trainer, spec.resume, root, spec.known_step)
            _describe(trainer, spec)
            peak = _peak(trainer)
            if ranks.is_first:
                _keep_tokenizer(dataset.tokenizer, Path(spec.run_dir) / "tokenizer.json")
                _tell_resumed(resumed, link)
                link.send(_run_event(spec, trainer, resumed, peak))
            # torch and its modules are some 300 000 objects that never become garbage: no collection need look at them again.
            gc.freeze()
            ready = Ready(spec=spec, link=link, status=status, trainer=trainer, resumed=resumed, root=root)
            link.send(body(ready))
    finally:
        with contextlib.suppress(OSError):  # the hub removes what is left
            Path(spec.meeting_file).unlink(missing_ok=True)


def _patience_s(config: RunConfig) -> float:
    """How long this rank waits for another: where the hub looks for hangs, as long as somebody may stop the run (Ctrl-Z)."""
    return PATIENT_S if config.control.hang_s else config.parallel.timeout_s


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Nothing is garbage while modules are loaded, and looking for it takes a third of the time of importing the compiler."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _keep_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Put the tokenizer into the run folder, for those who start from its weights. Rank 0."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(tokenizer.to_json()), encoding="ascii")
        temporary.replace(path)
    except OSError as error:  # a copy: checkpoints hold it too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        log.warning("the tokenizer was not written to %s: %s", safe_line(path.name), error.strerror)


def _describe(trainer: Trainer, spec: RankSpec) -> None:
    """Tell the log what was built: the first thing somebody looks for in it."""
    import torch

    config, dataset = trainer.config, trainer.dataset
    log.info(
        "rank %d of %d on %s, CPU threads: %d, torch %s",
        spec.rank,
        spec.world_size,
        spec.device,
        spec.threads,
        torch.__version__,
    )
    if spec.rank != 0:
        return
    log.info(
        "data %s: %d tokens to train on, %d held out; %s tokenizer, vocabulary of %d",
        safe_line(", ".join(config.data.corpora)),
        dataset.num_train_tokens,
        len(dataset.eval),
        dataset.tokenizer.kind,
        dataset.tokenizer.vocab_size,
    )
    log.info(
        "%d steps of %d sequences of %d tokens, %.2f passes over the data",
        trainer.target_step,
        trainer.global_batch,
        config.data.context,
        trainer.target_step * trainer.global_batch / trainer.place.batches.samples_per_epoch,
    )


def _tell_resumed(resumed: Resumed, link: RankEnd) -> None:
    """Say where the session starts and whether its bits will be those of a run that never stopped. Rank 0."""
    began = f"resumed from {resumed.folder.name}" if resumed.folder is not None else "began anew"
    if resumed.gap is not None:
        first, last = resumed.gap
        text = f"steps {first} to {last} are missing from the record: none of the checkpoints that it knows is left and whole"
        log.warning("%s", text)
        link.send(Alert(time=time.time(), topic="missing steps", text=text))
    notes = []
    if resumed.inexact_because:
        notes.append(f"not to the same bits: {'; '.join(resumed.inexact_because)}")
    if resumed.passed_over:
        notes.append(f"set aside, as damaged or of steps that the record does not hold: {', '.join(resumed.passed_over)}")
    if not notes:
        if resumed.folder is not None:
            log.info("%s, to the same bits", began)
        return
    text = f"{began}, {'; '.join(notes)}"
    log.warning("%s", safe_line(text))
    link.send(Alert(time=time.time(), topic="resume", text=safe_line(text), level="info"))


def _peak(trainer: Trainer) -> Peak:
    """What the devices of all ranks can do together: they are measured at the same time. All ranks."""
    from plt_tui.model.peak import Peak, peak_flops

    train = trainer.config.train
    uses_tf32 = train.precision == "fp32" and train.tf32
    own = peak_flops(trainer.ranks.device, "tf32" if uses_tf32 else train.precision)
    (total,) = trainer.ranks.sum([own.flops])
    return Peak(flops=total, source=own.source)


def _run_event(spec: RankSpec, trainer: Trainer, resumed: Resumed, peak: Peak) -> Run:
    from plt_tui.model.flops import flops_per_token, num_params
    from plt_tui.training.environment import environment

    dataset = trainer.dataset
    return Run(
        time=time.time(),
        name=Path(spec.run_dir).name,
        dir=spec.run_dir,
        world_size=spec.world_size,
        params=num_params(trainer.model),
        target_step=trainer.target_step,
        start_step=trainer.step,
        tokens_per_step=trainer.tokens_per_step,
        steps_per_epoch=trainer.place.batches.samples_per_epoch / trainer.global_batch,
        train_tokens=dataset.num_train_tokens,
        eval_tokens=len(dataset.eval),
        vocab_size=dataset.tokenizer.vocab_size,
        flops_per_token=flops_per_token(trainer.model, trainer.config.data.context),
        peak_flops=peak.flops,
        peak_source=peak.source,
        device=spec.device,
        resumed_from=resumed.folder.name if resumed.folder is not None else "",
        environment={**environment(spec.threads, spec.plugins, trainer.ranks), "data": dataset.fingerprint},
        config=trainer.config.model_dump(mode="json"),
        edits=edits_to(trainer.edits),
    )


def _failure(spec: RankSpec, step: int, error: Exception, exit_code: int, message: str) -> Failed:
    return Failed(
        time=time.time(),
        rank=spec.rank,
        message=safe_text(message),
        exit_code=exit_code,
        step=step,
        traceback=safe_text(traceback.format_exc()),
        is_lost_peer=_is_lost_peer(error),
    )


def is_out_of_memory(error: Exception) -> bool:
    """True for what Python, torch's GPU allocator and its CPU allocator raise; the last has no class for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "DefaultCPUAllocator: can't allocate memory" in str(error)


def _out_of_memory(error: Exception, spec: RankSpec) -> str:
    """What a person reads of `error`, and what to do about it."""
    traceback.clear_frames(error.__traceback__)  # what the failed functions held: to report it takes some memory too
    config = from_toml((Path(spec.run_dir) / "config.toml").read_text())
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return (
        f"out of memory ({text}) with train.batch_size = {config.train.batch_size}, data.context = {config.data.context}; "
        "halve train.batch_size and double train.accumulate (the same global batch), or shorten data.context"
    )


def _is_lost_peer(error: Exception) -> bool:
    """True for what a collective raises when another rank is gone (torch.distributed gives gloo's no class of their own)."""
    if isinstance(error, PltTuiError | TimeoutError):
        return isinstance(error, PeerFailed | TimeoutError)
    text = str(error)
    return any(sign in text for sign in ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL"))
