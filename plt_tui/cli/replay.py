"""`plt-tui replay` and `plt-tui verify-resume`: that a run's bits follow from its record, and that a stop changes none of them.

Compute in rank processes of their own, in a folder that is removed at the end. Invariant: the run is only read, and nothing is
left behind, however the command ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, RunArgument
from plt_tui.cli.echo import echo, echo_json
from plt_tui.cli.progress import shown_progress
from plt_tui.cli.run import PluginsOption, plugin_files, with_kept_tokenizer
from plt_tui.errors import EXIT_SIGINT, EXIT_SIGTERM, ReplayDiffers, UsageError

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.control.feed import Feed
    from plt_tui.control.folder import RunFolder
    from plt_tui.control.placement import Placement
    from plt_tui.control.replay import Difference, Report, Verdict
    from plt_tui.control.rerun import Job
    from plt_tui.control.stretches import Line
    from plt_tui.control.verify import Proof

_EXIT_CODES = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP}
ResultT = TypeVar("ResultT")


def replay(
    run: RunArgument,
    from_step: Annotated[
        int, typer.Option("--from", metavar="STEP", min=0, help="Begin with the newest checkpoint at or before this step.")
    ] = 0,
    branch: Annotated[int, typer.Option(metavar="N", min=0, help="A branch that a rewind left, instead of the run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    plugins: PluginsOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Compute a run again from its record and compare every bit.

    Follows the configuration and the edits of the surviving line on as many ranks as then. Exit code 8: a step differs.
    """
    from plt_tui.control.folder import find_run
    from plt_tui.control.gauges import visible_gpus
    from plt_tui.control.record import read_feed
    from plt_tui.control.replay import beginning, recorded_columns
    from plt_tui.control.replay import replay as compute_again

    folder, files = find_run(directory, run), plugin_files(plugins)
    feed = read_feed(folder)
    line = _line(folder, feed, branch)
    begin = beginning(line, _checkpoints(folder), from_step)
    recorded, gpus = recorded_columns(feed, branch), visible_gpus() if _on_gpu(line) else []

    async def work(place: RunFolder, report: Report) -> Verdict:
        return await compute_again(line, recorded, begin, place, gpus=gpus, plugins=files, report=report)

    verdict = _in_own_folder("replaying", work)
    ranks = sorted({stretch.run.world_size for stretch in line.stretches if stretch.last > begin.step})
    if as_json:
        echo_json(verdict_json(verdict, folder.name, branch, ranks))
    if verdict.difference is not None:
        raise ReplayDiffers(differs_text(verdict, verdict.difference))
    if not as_json:
        echo(same_text(verdict, ranks))


def verify_resume(
    target: Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="A TOML file, or a run, which is only read.")],
    steps: Annotated[int, typer.Option(metavar="K", min=1, help="Steps before and after the stop.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    plugins: PluginsOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Prove on this machine that stopping and resuming changes no bit.

    Trains K steps (a CONFIG from scratch, a RUN from its newest good checkpoint), saves, and goes on for K more; then fresh
    processes resume what was saved and compute the same K. Exit code 8: they differ.
    """
    from plt_tui.control.verify import verify_resume as prove

    job, start = _job(target, directory, plugin_files(plugins))

    async def work(place: RunFolder, report: Report) -> Proof:
        return await prove(job, start, steps, place, report=report)

    proof = _in_own_folder("training", work)
    devices = job.placement.devices
    where = f"{_ranks([len(devices)])}, {devices[0].partition(':')[0]}"
    if as_json:
        echo_json(proof_json(proof, len(devices)))
    if proof.difference is not None:
        raise ReplayDiffers(inexact_text(proof, proof.difference, where))
    if not as_json:
        echo(exact_text(proof, where))


def same_text(verdict: Verdict, ranks: list[int]) -> str:
    """What a replay without a difference found, in one sentence."""
    count = verdict.last - verdict.first + 1
    which = f" ({verdict.first} to {verdict.last})" if verdict.first > 1 else ""
    every = "every loss" if verdict.num_recorded == count else f"the {verdict.num_recorded} losses that the record holds"
    weights = f"and so have the weights (sha256 {verdict.weights_sha256})"
    if not verdict.weights_sha256:
        weights = f"and the record has no hash of the weights after step {verdict.last} to compare with"
    has = "has" if verdict.num_recorded == count else "have"
    return f"replayed {_counted(count, 'step')}{which} on {_ranks(ranks)}: {every} {has} the same bits, {weights}"


def differs_text(verdict: Verdict, difference: Difference) -> str:
    """The first step that differs, and what might be why."""
    before = difference.step - 1
    same = f"; steps {verdict.first} to {before} have the same bits" if before >= verdict.first else ""
    why = "; ".join(verdict.because) or (
        "versions, machine, threads and the size of the data are as they were, so the record, the text of the corpus or the "
        "code has changed"
    )
    return f"{_values_text(difference, 'in the record', 'computed again')}{same}\nwhy it might: {why}"


def exact_text(proof: Proof, where: str) -> str:
    """What a proof without a difference showed."""
    if proof.because:
        return f"steps {proof.first} to {proof.last} had the same bits this time ({where}), but not by promise: {proof.because}"
    return f"exact: steps {proof.first} to {proof.last} have the same bits after a resume ({where})"


def inexact_text(proof: Proof, difference: Difference, where: str) -> str:
    """Why a resume is not exact here."""
    what = _values_text(difference, "without a stop", "after the resume")
    return f"inexact ({where}) because {proof.because}; {what}" if proof.because else f"inexact ({where}) because {what}"


def verdict_json(verdict: Verdict, name: str, branch: int, ranks: list[int]) -> dict[str, Any]:
    """A replay's verdict as JSON values."""
    return {
        "run": name,
        "branch": branch,
        "first": verdict.first,
        "last": verdict.last,
        "recorded": verdict.num_recorded,
        "ranks": ranks,
        "exact": verdict.difference is None,
        "weights_sha256": verdict.weights_sha256,
        "difference": _difference_json(verdict.difference),
        "because": list(verdict.because),
    }


def proof_json(proof: Proof, num_ranks: int) -> dict[str, Any]:
    """A proof as JSON values."""
    return {
        "first": proof.first,
        "last": proof.last,
        "ranks": num_ranks,
        "exact": proof.difference is None,
        "difference": _difference_json(proof.difference),
        "because": [proof.because] if proof.because else [],
    }


def _difference_json(difference: Difference | None) -> Any:
    from plt_tui.control.summary import json_ready

    return json_ready({"step": difference.step, "values": difference.values}) if difference is not None else None


def _values_text(difference: Difference, before: str, now: str) -> str:
    """Such as "step 6 has other bits: loss 2.5 in the record, 2.25 computed again"."""
    pairs = [f"{name} {old} {before}, {new} {now}" for name, (old, new) in difference.values.items()]
    return f"step {difference.step} has other bits: {'; '.join(pairs)}"


def _line(folder: RunFolder, feed: Feed, branch: int) -> Line:
    """The line to compute again, with the run's own tokenizer. Raises: UsageError when it has no step; StorageError."""
    from plt_tui.control.stretches import stretches

    line = stretches(feed.events, branch, last=feed.state.step)
    if not line.stretches:
        raise UsageError(f"{folder.name} has no step to replay yet")
    kept = [replace(stretch, config=with_kept_tokenizer(stretch.config, folder)) for stretch in line.stretches]
    return replace(line, stretches=tuple(kept))


def _on_gpu(line: Line) -> bool:
    return any(stretch.run.device != "cpu" for stretch in line.stretches)


def _checkpoints(folder: RunFolder) -> dict[int, Path]:
    from plt_tui.config.pretrained import checkpoints

    return {step: path.absolute() for step, path in checkpoints(folder.path).items()}


def _job(target: str, directory: Path, plugins: tuple[str, ...]) -> tuple[Job, int]:
    """What a proof begins with, and its completed steps; the proof itself sets how far it goes."""
    from plt_tui.config.load import from_toml, load
    from plt_tui.config.sources import read_text
    from plt_tui.control.folder import find_run
    from plt_tui.control.record import read_overview
    from plt_tui.control.rerun import Job, newest_whole

    if Path(target).is_file():
        config = load(Path(target), environ=os.environ, dotenv=Path(".env")).config
        return Job(config=config, placement=_placement(config), until=0, plugins=plugins), 0
    folder = find_run(directory, target)
    config = with_kept_tokenizer(from_toml(read_text(folder.config)), folder)
    saved = _checkpoints(folder)
    start = newest_whole(saved)
    if not start:
        raise UsageError(f"{folder.name} has no good checkpoint to begin with; give its config, {folder.config}, instead")
    edits = read_overview(folder).edits
    resume = str(saved[start])
    return Job(config=config, placement=_placement(config), until=0, edits=edits, resume=resume, plugins=plugins), start


def _placement(config: RunConfig) -> Placement:
    from plt_tui.control.gauges import usable_cores, visible_gpus
    from plt_tui.control.placement import place

    return place(config.parallel, usable_cores(), visible_gpus())


def _in_own_folder(task: str, work: Callable[[RunFolder, Report], Awaitable[ResultT]]) -> ResultT:
    """The result of `work` in a temporary folder; a signal ends it in good order. Raises: typer.Exit after a signal."""
    from plt_tui.control.folder import RunFolder

    async def session() -> ResultT:
        with shown_progress() as progress, tempfile.TemporaryDirectory(prefix="plt-tui-") as place:

            def report(done: int, total: int) -> None:
                if sys.stderr.isatty():
                    progress(task, done, total, "steps")

            return await work(RunFolder(Path(place)), report)

    return asyncio.run(_ended_by_signals(session()))


async def _ended_by_signals(work: Awaitable[ResultT]) -> ResultT:
    """The result of `work`, which the first signal cancels; its clean-up is not disturbed by more of them."""
    loop, task, came = asyncio.get_running_loop(), asyncio.ensure_future(work), list[int]()

    def stop(number: signal.Signals) -> None:
        if not came:
            came.append(_EXIT_CODES[number])
            task.cancel()

    for number in _EXIT_CODES:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if came:
            raise typer.Exit(came[0]) from None
        raise


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _ranks(sizes: list[int]) -> str:
    return _counted(sizes[0], "rank") if len(sizes) == 1 else f"{' and '.join(map(str, sizes))} ranks"
