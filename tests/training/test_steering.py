"""Commands that change what is computed: in force at their step, answered with the values, and all that a replay needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plt_tui.config.edits import Edit
from plt_tui.data.prepare import Dataset
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import CommandStatus, Plan, Recent, Step
from plt_tui.protocol.manifest import step_of
from plt_tui.training import checkpoint
from plt_tui.training.seeds import stream_seed
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny
from tests.training.plays import QUIET, Play, Script, ask, computed_again, folded_edits, kept_steps

RECENT = ("checkpoint.recent_every=2", "checkpoint.recent=3")


def applied(play: Play, name: str) -> CommandStatus:
    """The one applied command of that name."""
    (found,) = [status for status in play.link.of(CommandStatus) if (status.name, status.status) == (name, "applied")]
    return found


def test_a_rewind_computes_the_same_steps_again(dataset: Dataset, tmp_path: Path) -> None:
    """Going back changes nothing by itself: the steps have the bits that they had, and so has the end."""
    plain, steered = Play(dataset, tmp_path / "a", {}), Play(dataset, tmp_path / "b", {7: [ask("rewind", step=4)]}, *RECENT)
    weights = [plain.run().weights_sha256, steered.run().weights_sha256]
    losses = [step.loss for step in plain.link.of(Step)]
    assert [step.loss for step in steered.link.of(Step)] == [*losses[:7], *losses[4:]]
    assert weights[0] == weights[1]
    status = applied(steered, "rewind")
    assert (status.step, status.before, status.after) == (4, 7, 4)
    assert status.reason == "to the state of step 4 (memory)"


def test_a_rewind_with_a_skip_leaves_the_batches_out(dataset: Dataset, tmp_path: Path) -> None:
    """The steps after it train on the batches behind the ones left out, and on no others."""
    play = Play(dataset, tmp_path, {6: [ask("rewind", step=4, skip=3)]}, *RECENT)
    play.run()
    reference = Trainer(tiny(*QUIET), dataset=dataset)
    for _ in range(4):
        reference.train_step()
    reference.place.sample_index += 3 * reference.global_batch
    kept = kept_steps(play.link.said)
    assert [kept[number].loss for number in range(5, 13)] == [reference.train_step() for _ in range(8)]
    assert play.trainer.place.sample_index == reference.place.sample_index
    assert play.trainer.place.trained == 12 * 4  # what was left out was not trained on


@pytest.mark.parametrize(
    ("sets", "wanted", "landed", "source"),
    [
        (("checkpoint.recent_every=4",), 7, 4, "memory"),
        (("checkpoint.recent=0", "checkpoint.every=3"), 7, 6, "step-00000006"),
        (("checkpoint.recent_every=4", "checkpoint.every=3"), 7, 6, "step-00000006"),
        (("checkpoint.recent_every=5", "checkpoint.every=3"), 5, 5, "memory"),
        (("checkpoint.recent=0",), 0, 0, "the start"),
        (("checkpoint.recent_every=2", "checkpoint.recent=1"), 0, 0, "the start"),
    ],
)
def test_a_rewind_lands_on_the_newest_kept_state(
    dataset: Dataset, tmp_path: Path, sets: tuple[str, ...], wanted: int, landed: int, source: str
) -> None:
    """In memory, on disk or at the start, whichever is nearest before the step; and the end is that of the plain run."""
    play = Play(dataset, tmp_path / "a", {8: [ask("rewind", step=wanted)]}, *sets)
    weights = play.run().weights_sha256
    status = applied(play, "rewind")
    assert (status.step, f"({source})" in status.reason) == (landed, True)
    assert ("newest that is kept" in status.reason) == (landed != wanted)
    assert weights == Play(dataset, tmp_path / "b", {}).run().weights_sha256


def test_a_person_loses_no_more_than_was_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    """Where nothing but the start is kept before the step, the run does not begin anew unasked."""
    play = Play(dataset, tmp_path, {7: [ask("rewind", step=5)]}, "checkpoint.recent=0")
    play.run()
    (refused,) = [status for status in play.link.of(CommandStatus) if status.status == "refused"]
    assert refused.reason == "no state at or before step 5 is kept but the start; rewind 0 begins anew"
    assert len(play.link.of(Step)) == 12


def test_a_rewind_sets_later_checkpoints_aside(dataset: Dataset, tmp_path: Path) -> None:
    """A resume can only find what lies on the line that the run is on; nothing is deleted."""
    play = Play(dataset, tmp_path, {8: [ask("rewind", step=5), ask("stop", now=True)]}, "checkpoint.every=3")
    play.run()
    names = sorted(path.name.partition(".")[0] for path in play.root.iterdir())
    assert names == ["step-00000003", "step-00000006"]
    assert [step_of(path) for path in checkpoint.find(play.root)] == [3]


@pytest.mark.parametrize(
    ("args", "reason"),
    [({"step": 9}, "is at step 6"), ({"step": 6}, "is there already"), ({"step": 6, "skip": 0}, "there already")],
)
def test_a_rewind_to_where_one_cannot_go_is_refused(
    dataset: Dataset, tmp_path: Path, args: dict[str, int], reason: str
) -> None:
    """The future cannot be gone back to, and the present only to leave something out."""
    play = Play(dataset, tmp_path, {6: [ask("rewind", **args)]})
    play.run()
    (refused,) = [status for status in play.link.of(CommandStatus) if status.status == "refused"]
    assert reason in refused.reason
    assert len(play.link.of(Step)) == 12


def test_batches_can_be_left_out_without_going_back(dataset: Dataset, tmp_path: Path) -> None:
    """A rewind to the present step with a skip is only a skip."""
    play = Play(dataset, tmp_path, {6: [ask("rewind", step=6, skip=2)]})
    play.run()
    assert play.trainer.place.sample_index == (12 + 2) * 4
    assert [step.step for step in play.link.of(Step)] == list(range(1, 13))


def test_a_skip_here_takes_no_edit_back(dataset: Dataset, tmp_path: Path) -> None:
    """Nothing is gone back to, so what was just set for the next step stays; skips of one step add up."""
    script: Script = {
        6: [ask("set", name="grad_clip", value=0.5), ask("rewind", step=6, skip=2), ask("rewind", step="6", skip=1)]
    }
    play = Play(dataset, tmp_path, script)
    weights = play.run().weights_sha256
    assert [(edit.name, edit.value) for edit in play.trainer.edits] == [("grad_clip", 0.5), ("skip", 2), ("skip", 1)]
    assert folded_edits(play.link.said) == play.trainer.edits
    assert play.trainer.place.sample_index == (12 + 3) * 4
    assert computed_again(dataset, play.trainer.edits, 12)[1] == weights


def test_a_rewind_drops_later_edits_and_keeps_earlier_ones(dataset: Dataset, tmp_path: Path) -> None:
    """An edit at the very step that is gone back to came after that moment, so it goes too."""
    script: Script = {
        2: [ask("set", name="grad_clip", value=0.5)],
        4: [ask("set", name="weight_decay", value=0.0)],
        6: [ask("set", name="lr", value=1.0), ask("rewind", step=4)],
    }
    play = Play(dataset, tmp_path, script, *RECENT)
    play.run()
    assert [(edit.name, edit.step) for edit in play.trainer.edits] == [("grad_clip", 3)]
    assert folded_edits(play.link.said) == play.trainer.edits


def test_what_is_kept_in_memory_fits_its_budget(dataset: Dataset, tmp_path: Path) -> None:
    """Too large a state is not kept at all, and nothing is copied for it; else the cost is told."""
    play = Play(dataset, tmp_path / "a", {}, "checkpoint.recent_every=2", "checkpoint.recent=4")
    play.run()
    newest = play.link.of(Recent)[-1]
    assert newest.steps == [4, 6, 8, 10]
    assert newest.bytes == 4 * play.trainer.state_bytes
    large = Play(dataset, tmp_path / "b", {}, "checkpoint.recent_every=2")
    large.session._past._budget_bytes = large.trainer.state_bytes - 1
    large.run()
    assert large.link.of(Recent) == []


def test_a_kept_global_batch_changes_no_target_and_few_bits(dataset: Dataset, tmp_path: Path) -> None:
    """Half the micro-batch and twice the accumulation train on the same sequences: the losses agree to rounding."""
    script: Script = {4: [ask("set", name="batch_size", value=2, mode="keep")]}
    play, plain = Play(dataset, tmp_path / "a", script), Play(dataset, tmp_path / "b", {})
    play.run()
    plain.run()
    assert [step.loss for step in play.link.of(Step)] == pytest.approx([step.loss for step in plain.link.of(Step)], rel=1e-4)
    assert applied(play, "set").args["value"] == (2, 2)
    assert (applied(play, "set").before, applied(play, "set").after) == (4, 2)
    assert play.link.of(Plan) == []


def test_a_changed_global_batch_moves_a_target_in_tokens(dataset: Dataset, tmp_path: Path) -> None:
    """The run trains on as many tokens as were asked for, in more steps, and says so."""
    script: Script = {4: [ask("set", name="batch_size", value=2)]}
    play = Play(dataset, tmp_path, script, "train.steps=0", f"train.tokens={12 * 4 * 16}")
    play.run()
    assert play.trainer.step == 4 + 2 * 8
    assert play.trainer.tokens == 12 * 4 * 16
    (plan,) = play.link.of(Plan)
    assert (plan.step, plan.target_step, plan.tokens_per_step) == (5, 20, 2 * 16)


@pytest.mark.parametrize(
    ("name", "value", "mode", "reason"),
    [("batch_size", 3, "keep", "allowed: 1, 2, 4"), ("weights", "1,2", "set", "2 numbers for 1 corpora")],
)
def test_a_value_that_does_not_fit_this_run_is_refused(
    dataset: Dataset, tmp_path: Path, name: str, value: object, mode: str, reason: str
) -> None:
    """The answer says what would."""
    play = Play(dataset, tmp_path, {4: [ask("set", name=name, value=value, mode=mode)]})
    play.run()
    (refused,) = [status for status in play.link.of(CommandStatus) if status.status == "refused"]
    assert reason in refused.reason
    assert play.trainer.edits == []


def test_the_embeddings_gradient_is_scaled_from_the_next_step_on(dataset: Dataset, tmp_path: Path) -> None:
    """With a factor of 0 and no decay the table stands still, and the rest of the model does not."""
    script: Script = {4: [ask("set", name="embedding_grad_scale", value=0.0), ask("checkpoint")]}
    play = Play(dataset, tmp_path, script, "optim.name=sgd", "optim.momentum=0.0", "optim.lr=0.1")
    play.run()
    before = checkpoint.read(play.root / "step-00000004").model
    after = dict(play.trainer.model.named_parameters())
    still = {name for name, tensor in before.items() if tensor.equal(after[name])}
    assert still == {"embedding.weight"}


KNOBS = [
    {"name": "lr", "value": 1e-3},
    {"name": "lr", "value": 0.5, "mode": "scale"},
    {"name": "lr", "value": 1e-5, "mode": "replan"},
    {"name": "grad_clip", "value": 0.1},
    {"name": "betas", "value": [0.8, 0.99]},
    {"name": "weight_decay", "value": 0.0},
    {"name": "batch_size", "value": 2},
    {"name": "batch_size", "value": 1, "mode": "keep"},
    {"name": "accumulate", "value": 2},
    {"name": "accumulate", "value": 2, "mode": "keep"},
    {"name": "weights", "value": [1.0, 3.0]},
    {"name": "embedding_grad_scale", "value": 0.1},
    {"name": "eval_every", "value": 3},
    {"name": "checkpoint_every", "value": 2},
]
ASKED = st.one_of(
    st.sampled_from(KNOBS).map(lambda args: ("set", args)),
    st.tuples(st.just("rewind"), st.fixed_dictionaries({"step": st.integers(0, 14), "skip": st.integers(0, 3)})),
    st.tuples(st.sampled_from(["undo", "undo", "eval", "sample", "checkpoint", "pause", "resume"]), st.just({})),
)
SCRIPTS = st.lists(st.tuples(st.integers(0, 20), ASKED), max_size=10)
MIXED = ("model.dropout=0.1", "checkpoint.recent_every=3", "checkpoint.recent=2", "optim.name=muon")


@pytest.fixture(scope="module")
def two_corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, str]:
    """Two corpora, prepared, and the setting that names them."""
    from plt_tui.data.prepare import prepare

    folder = tmp_path_factory.mktemp("corpora")
    (folder / "a.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    (folder / "b.txt").write_text("pack my box with five dozen liquor jugs\n" * 80)
    setting = f'data.train=["{folder / "a.txt"}","{folder / "b.txt"}"]'
    return prepare(tiny(setting).data), setting


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=SCRIPTS)
def test_a_run_is_a_function_of_its_configuration_and_its_edits(
    two_corpora: tuple[Dataset, str], tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, tuple[str, dict]]]
) -> None:
    """Whatever was asked for on the way, training from scratch under the edits that the record tells gives the same bits."""
    dataset, corpora = two_corpora
    script: Script = {}
    for number, (boundary, (verb, args)) in enumerate(asked):
        script.setdefault(boundary, []).append(Command(id=f"c{number}", name=verb, args=args, actor=f"client {number % 2}"))
    if any(verb == "pause" for _, (verb, _) in asked):
        script.setdefault(30, []).append(Command(id="end", name="resume"))
        script.setdefault(60, []).append(Command(id="end 2", name="resume"))
    play = Play(dataset, tmp_path_factory.mktemp("play"), script, corpora, *MIXED)
    done = play.run()
    edits, kept = folded_edits(play.link.said), kept_steps(play.link.said)
    assert edits == play.trainer.edits
    assert sorted(kept) == list(range(1, 13))
    losses, weights = computed_again(dataset, edits, 12, corpora, *MIXED)
    assert losses == [kept[number].loss for number in range(1, 13)]
    assert weights == done.weights_sha256


@pytest.mark.parametrize("verb", ["set", "rewind"])
def test_without_its_edits_a_run_cannot_be_computed_again(dataset: Dataset, tmp_path: Path, verb: str) -> None:
    """What the property above compares can differ: a lost edit or a lost skip shows at its very step."""
    args = {"name": "grad_clip", "value": 0.01} if verb == "set" else {"step": 4, "skip": 1}
    play = Play(dataset, tmp_path, {4: [ask(verb, **args)]})
    weights = play.run().weights_sha256
    kept = kept_steps(play.link.said)
    losses, other = computed_again(dataset, [], 12)
    differing = next(number for number in range(1, 13) if losses[number - 1] != kept[number].loss)
    assert differing == (6 if verb == "set" else 5)  # a clipped update shows in the loss after it
    assert weights != other


def test_a_checkpoint_knows_the_edits_that_it_was_computed_with(dataset: Dataset, tmp_path: Path) -> None:
    """A hub that died may have lost the last ones: up to its step the checkpoint's word counts, ahead of it the record's."""
    play = Play(dataset, tmp_path, {2: [ask("set", name="grad_clip", value=0.5)], 6: [ask("checkpoint")]})
    play.run()
    later = Edit(id="later", step=9, name="weight_decay", value=0.0)
    false = Edit(id="false", step=3, name="lr", value=1.0)
    resumed = Trainer(tiny(*QUIET), dataset=dataset)
    resumed.edits = [false, later]
    resumed.load_checkpoint(play.root / "step-00000006")
    assert {(edit.name, edit.step) for edit in resumed.edits} == {("grad_clip", 3), ("weight_decay", 9)}


def test_dropout_is_keyed_by_the_step(dataset: Dataset, tmp_path: Path) -> None:
    """With another key the steps after a rewind have other bits, so the equality above holds for a reason."""
    play = Play(dataset, tmp_path, {7: [ask("rewind", step=4)]}, *RECENT, "model.dropout=0.2")
    play.run()
    steps = play.link.of(Step)
    assert [step.loss for step in steps[4:7]] == [step.loss for step in steps[7:10]]
    assert stream_seed(1337, "dropout", 0, 4, 0) != stream_seed(1337, "dropout", 0, 5, 0)


def test_a_repeat_of_an_edit_is_answered_and_does_nothing(dataset: Dataset, tmp_path: Path) -> None:
    """A start of the ranks is given what was not answered before it, which a checkpoint may hold already."""
    halved, taken_back = ask("set", name="lr", value=0.5, mode="scale"), ask("undo")
    play = Play(dataset, tmp_path, {3: [halved], 5: [halved], 7: [taken_back], 8: [taken_back]})
    play.run()
    assert [(edit.name, edit.step) for edit in play.trainer.edits] == [("lr", 4), ("undo", 8)]
    assert play.link.answers() == [("set", "applied", 4)] * 2 + [("undo", "applied", 8)] * 2
    assert folded_edits(play.link.said) == play.trainer.edits
