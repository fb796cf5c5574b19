"""The guard at work in a session: what it does about a bad step, that it is recorded, and that the record replays."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from plt_tui.config.edits import Edit
from plt_tui.data.prepare import Dataset
from plt_tui.errors import NonFiniteLoss
from plt_tui.protocol.events import Checkpoint, CheckpointFailed, CommandStatus, RankStatus, Spike, Step
from plt_tui.protocol.manifest import step_of
from plt_tui.training import checkpoint
from tests.training.plays import Play, ask, computed_again, folded_edits, kept_steps, poison

RECENT = ("checkpoint.recent_every=2", "checkpoint.recent=6")
JUMPY = (
    *("optim.lr=1e-4", "optim.min_lr=0.0", "optim.schedule=constant", "optim.warmup=0", "train.steps=20"),
    *("guard.window=8", "guard.z=0.7", "guard.cooldown=0", "guard.limit=100"),
)
"""A loss that hardly falls, and every one that is larger than usual is a spike."""


def acts(play: Play) -> list[tuple[str, str, int]]:
    """What the guard did: name, actor and step of its applied commands."""
    return [
        (status.name, status.actor, status.step)
        for status in play.link.of(CommandStatus)
        if status.status == "applied" and status.actor == "guard"
    ]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (("guard.non_finite=skip",), [("skip_update", "guard", 6)]),
        (("guard.non_finite=lower", "guard.factor=0.25"), [("skip_update", "guard", 6), ("set", "guard", 7)]),
        (
            ("guard.non_finite=rewind", "guard.back=2", "guard.leave_out=3"),
            [("skip_update", "guard", 6), ("rewind", "guard", 4)],
        ),
    ],
)
def test_a_step_that_is_no_number_is_survived_and_recorded(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: tuple[str, ...],
    expected: list[tuple[str, str, int]],
) -> None:
    """The update is never applied, the act is in the record, and the record alone gives the same weights."""
    play = Play(dataset, tmp_path, {}, *RECENT, *policy)
    poison(play.trainer, 6, monkeypatch)
    done = play.run()
    (spike,) = play.link.of(Spike)
    assert (spike.step, spike.what, math.isnan(spike.z)) == (6, "grad_norm", True)
    assert acts(play) == expected
    edits, kept = folded_edits(play.link.said), kept_steps(play.link.said)
    assert edits == play.trainer.edits
    losses, weights = computed_again(dataset, edits, 12)
    assert losses == [kept[number].loss for number in range(1, 13)]
    assert weights == done.weights_sha256


def test_the_policy_stop_leaves_the_step_undone(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed or recorded as computed, so a resume meets the same step again."""
    play = Play(dataset, tmp_path, {})
    poison(play.trainer, 6, monkeypatch)
    with pytest.raises(NonFiniteLoss, match="step 6: gradient norm is nan"):
        play.run()
    assert play.trainer.step == 5
    assert [step.step for step in play.link.of(Step)] == [1, 2, 3, 4, 5]
    assert acts(play) == [("stop", "guard", 6)]


def test_the_guard_gives_up_at_its_limit(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that stays bad however often it is gone around ends the run instead of going round for ever."""
    play = Play(dataset, tmp_path, {}, *RECENT, "guard.non_finite=rewind", "guard.back=2", "guard.limit=3")
    poison(play.trainer, 6, monkeypatch, times=100)
    with pytest.raises(NonFiniteLoss, match="limit is 3"):
        play.run()
    assert [name for name, _, _ in acts(play)] == ["skip_update", "rewind"] * 3 + ["stop"]


@pytest.mark.parametrize("policy", ["warn", "skip", "lower", "rewind"])
def test_what_the_guard_does_about_spikes_replays(dataset: Dataset, tmp_path: Path, policy: str) -> None:
    """Every policy has acted, and training under the recorded edits, without any guard, gives the same bits."""
    settings = (*RECENT, *JUMPY, f"guard.spike={policy}", "guard.back=1", "guard.leave_out=2", "guard.limit=4")
    play = Play(dataset, tmp_path, {}, *settings)
    try:
        weights = play.run().weights_sha256
    except NonFiniteLoss:  # at its limit
        weights = play.trainer.weights_sha256()
    assert play.link.of(Spike)
    assert bool(acts(play)) == (policy != "warn")
    edits, kept = folded_edits(play.link.said), kept_steps(play.link.said)
    losses, again = computed_again(dataset, edits, play.trainer.step, *settings)
    assert losses == [kept[number].loss for number in sorted(kept)]
    assert again == weights


def test_a_rewind_of_the_guard_is_told_as_one(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may read a checkpoint for longer than a step may ever take: whoever looks for hangs must know."""
    play = Play(dataset, tmp_path, {}, *RECENT, "guard.non_finite=rewind", "guard.back=2")
    poison(play.trainer, 6, monkeypatch)
    play.run()
    told = [(status.doing, status.step) for status in play.link.of(RankStatus)]
    assert told.index(("rewinding", 6)) < told.index(("training", 4))


def test_going_around_the_same_place_again_leaves_more_out(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not help the first time is not trained on again: the batches that are left out add up."""
    play = Play(dataset, tmp_path, {}, *RECENT, "guard.non_finite=rewind", "guard.back=2", "guard.leave_out=3")
    poison(play.trainer, 6, monkeypatch, times=3)
    weights = play.run().weights_sha256
    rewinds = [status for status in play.link.of(CommandStatus) if (status.name, status.status) == ("rewind", "applied")]
    assert [(status.step, status.args["skip"]) for status in rewinds] == [(4, 3), (4, 6), (4, 9)]
    assert play.trainer.place.sample_index == (12 + 9) * 4
    assert folded_edits(play.link.said) == play.trainer.edits
    assert computed_again(dataset, play.trainer.edits, 12)[1] == weights


def test_a_spike_within_the_cool_down_only_warns(dataset: Dataset, tmp_path: Path) -> None:
    """One act, then warnings."""
    play = Play(dataset, tmp_path, {}, *JUMPY, "guard.spike=lower", "guard.cooldown=100")
    play.run()
    first, *others = [spike.act for spike in play.link.of(Spike)]
    assert (first, set(others)) == ("lower", {"warn"})
    assert [name for name, _, _ in acts(play)] == ["set"]


@pytest.mark.parametrize("policy", ["skip", "lower", "rewind"])
def test_a_run_that_was_hurt_decides_as_one_that_was_not(dataset: Dataset, tmp_path: Path, policy: str) -> None:
    """Steps that the record holds follow it; behind them the restored window decides as if nothing had happened."""
    settings = (
        *RECENT,
        *JUMPY,
        f"guard.spike={policy}",
        "guard.back=1",
        "guard.leave_out=2",
        "guard.limit=3",
        "train.steps=20",
    )
    whole = Play(dataset, tmp_path / "whole", {}, *settings, "guard.cooldown=4")
    hurt = Play(
        dataset, tmp_path / "hurt", {5: [ask("checkpoint")], 11: [ask("stop", now=True)]}, *settings, "guard.cooldown=4"
    )
    hurt.run()
    known = max(kept_steps(hurt.link.said))
    again = Play(dataset, tmp_path / "again", {}, *settings, known_step=known)
    again.trainer.edits = folded_edits(hurt.link.said)
    (saved,) = checkpoint.find(hurt.root)
    again.trainer.load_checkpoint(saved)
    again.session._sentry._acts = len([spike for spike in hurt.link.of(Spike) if spike.act != "warn"])
    ends = []
    for play in (whole, again):
        try:
            ends.append(play.run().weights_sha256)
        except NonFiniteLoss:  # at its limit: at the same step then
            ends.append(f"{play.trainer.step} {play.trainer.weights_sha256()}")
    assert ends[0] == ends[1]
    assert acts(whole)


def test_weights_that_are_no_numbers_never_reach_the_disk(dataset: Dataset, tmp_path: Path) -> None:
    """The good checkpoint before them stays the newest, and somebody is told."""
    play = Play(dataset, tmp_path, {5: [ask("checkpoint")], 6: [ask("checkpoint"), ask("stop", now=True)]})
    snapshot = play.trainer.snapshot

    def broken(name: str = "") -> checkpoint.Snapshot:
        if play.trainer.step == 6:
            next(iter(play.trainer.model.parameters())).data.fill_(math.inf)
        return snapshot(name)

    play.trainer.snapshot = broken  # type: ignore[method-assign]
    play.run()
    assert [saved.step for saved in play.link.of(Checkpoint)] == [5]
    (failed,) = play.link.of(CheckpointFailed)
    assert (failed.step, "NaN or infinite" in failed.reason) == (6, True)
    assert [step_of(path) for path in checkpoint.find(play.root)] == [5]


def test_hibernation_ends_a_session_that_is_saved(dataset: Dataset, tmp_path: Path) -> None:
    """It answers once its step is on disk, and the next session goes on to the same bits."""
    play = Play(dataset, tmp_path, {5: [ask("hibernate")]})
    done = play.run()
    assert (done.finished, done.step) == (False, 5)
    assert play.link.answers() == [("hibernate", "applied", 5)]
    again = Play(dataset, tmp_path / "again", {})
    again.trainer.load_checkpoint(play.root / "step-00000005")
    assert again.run().weights_sha256 == Play(dataset, tmp_path / "whole", {}).run().weights_sha256


def test_a_run_that_cannot_be_saved_does_not_hibernate(dataset: Dataset, tmp_path: Path) -> None:
    """It says why, and goes on."""
    play = Play(dataset, tmp_path, {5: [ask("hibernate")], 8: [ask("stop", now=True)]})
    play.root.write_text("a file where the checkpoints should be")
    play.run()
    assert [(name, status) for name, status, _ in play.link.answers()] == [("hibernate", "refused"), ("stop", "applied")]
    assert play.trainer.step == 8


@pytest.mark.parametrize("holds_the_act", [True, False])
def test_a_known_step_that_is_no_number_is_survived_even_if_the_act_was_lost(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds_the_act: bool
) -> None:
    """A crash between the record of a step and that of the act: the policy holds again, and does not where it has acted."""
    play = Play(dataset, tmp_path, {}, "guard.non_finite=lower", known_step=8)
    if holds_the_act:
        play.trainer.edits.append(Edit(id="guard-6-1-skip_update", step=6, name="skip_update", value="", actor="guard"))
    poison(play.trainer, 6, monkeypatch)
    play.run()
    assert acts(play) == ([] if holds_the_act else [("skip_update", "guard", 6), ("set", "guard", 7)])
