"""The trainer on its own: reference numerics, exact resume, targets, and what a checkpoint refuses."""

import functools
import json
import math
from pathlib import Path

import pytest
import torch
from torch._dynamo import OptimizedModule
from torch.nn import functional

from plt_tui.config.hyper import Edit
from plt_tui.data.prepare import Dataset
from plt_tui.errors import DataError, NonFiniteLoss, StorageError, UsageError
from plt_tui.plugins import Plugins
from plt_tui.training.trainer import Trainer
from tests.training.conftest import tiny


def trainer_of(dataset: Dataset, *sets: str) -> Trainer:
    """A trainer on the small corpus."""
    return Trainer(tiny(*sets), dataset=dataset)


def reference_losses(trainer: Trainer, steps: int) -> list[float]:
    """The same training written the plain way, with torch's unfused AdamW and its own clipping."""
    config, model = trainer.config, trainer.model
    size, context = trainer.global_batch, config.data.context
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embed" not in n]
    plain = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    groups = [{"params": decayed, "weight_decay": config.optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=config.optim.betas, eps=config.optim.eps, foreach=False, fused=False)
    losses = []
    for step in range(steps):
        lr = trainer.hyper(step + 1).lr
        for group in optimizer.param_groups:
            group["lr"] = lr
        ids = torch.from_numpy(trainer.place.batches.batch(step * size, size))
        logits = model(ids[:, :-1])
        loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
        assert logits.shape == (size, context, trainer.dataset.tokenizer.vocab_size)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_training_equals_a_plain_torch_loop(dataset: Dataset) -> None:
    """Loss, clipping, AdamW with decay groups, schedule and data order agree with the loop that a textbook would write."""
    ours = trainer_of(dataset)
    expected = reference_losses(trainer_of(dataset), 12)
    assert [ours.train_step() for _ in range(12)] == pytest.approx(expected, rel=1e-4)


def test_accumulation_equals_one_large_batch(dataset: Dataset) -> None:
    """2 micro-steps of 4 sequences give the losses of one batch of 8, in the same data order."""
    whole = trainer_of(dataset, "train.batch_size=8")
    parts = trainer_of(dataset, "train.accumulate=2")
    assert [parts.train_step() for _ in range(6)] == pytest.approx([whole.train_step() for _ in range(6)], rel=1e-5)
    assert (parts.place.sample_index, parts.tokens) == (whole.place.sample_index, whole.tokens)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(dataset: Dataset) -> None:
    """Two trainings are equal to the bit; another seed changes them."""
    first, again, other = trainer_of(dataset), trainer_of(dataset), trainer_of(dataset, "run.seed=2")
    losses = [trainer.train() for trainer in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert first.weights_sha256() == again.weights_sha256() != other.weights_sha256()


@pytest.mark.parametrize("sets", [(), ("model.dropout=0.2",), ("train.precision=bf16",), ("train.accumulate=2",)])
def test_a_resumed_training_ends_with_the_same_bits(dataset: Dataset, tmp_path: Path, sets: tuple[str, ...]) -> None:
    """Save after 5 steps, load into a new trainer, finish: the weights of the one that never stopped; also with dropout."""
    whole = trainer_of(dataset, *sets)
    part = trainer_of(dataset, *sets)
    for _ in range(5):
        whole.train_step()
        part.train_step()
    folder = part.save_checkpoint(tmp_path)
    whole.evaluate()
    whole.sample()
    whole.train()
    resumed = trainer_of(dataset, *sets)
    torch.manual_seed(99)  # the global stream must not matter
    assert resumed.load_checkpoint(folder) == []
    resumed.train()
    assert resumed.weights_sha256() == whole.weights_sha256()


def test_a_lost_cursor_would_be_noticed(dataset: Dataset, tmp_path: Path) -> None:
    """The test above can fail: without the place in the data the bits differ."""
    whole = trainer_of(dataset)
    for _ in range(5):
        whole.train_step()
    folder = whole.save_checkpoint(tmp_path)
    whole.train()
    resumed = trainer_of(dataset)
    resumed.load_checkpoint(folder)
    resumed.place.sample_index = 0
    resumed.train()
    assert resumed.weights_sha256() != whole.weights_sha256()


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (("optim.lr=1e-3",), "optim.lr 0.003 -> 0.001"),
        (("train.batch_size=2",), "train.batch_size 4 -> 2"),
        (("model.dropout=0.1",), "model.dropout 0.0 -> 0.1"),
        (("train.steps=24",), "target_step 12 -> 24"),
    ],
)
def test_an_inexact_resume_says_why(dataset: Dataset, tmp_path: Path, sets: tuple[str, ...], reason: str) -> None:
    """Whatever changes the bits is named."""
    folder = trainer_of(dataset).save_checkpoint(tmp_path)
    assert reason in trainer_of(dataset, *sets).load_checkpoint(folder)


def test_the_same_target_in_other_words_is_exact(dataset: Dataset, tmp_path: Path) -> None:
    """What counts is where the schedule ends, not which key said so."""
    folder = trainer_of(dataset).save_checkpoint(tmp_path)
    assert trainer_of(dataset, "train.steps=0", f"train.tokens={12 * 4 * 16}").load_checkpoint(folder) == []


def test_a_checkpoint_of_another_shape_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """The message names the key and both values."""
    folder = trainer_of(dataset).save_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="layers 2 -> 3"):
        trainer_of(dataset, "model.layers=3").load_checkpoint(folder)


def test_a_checkpoint_of_other_data_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """Changed training data is found by its fingerprint."""
    folder = trainer_of(dataset).save_checkpoint(tmp_path)
    other = Trainer(tiny("data.eval_fraction=0.3"))
    with pytest.raises(DataError, match="changed"):
        other.load_checkpoint(folder)


def test_a_target_in_epochs_counts_what_is_left(dataset: Dataset, tmp_path: Path) -> None:
    """After a resume with half the batch the rest of the corpus takes twice the steps."""
    before = trainer_of(dataset, "train.steps=0", "train.epochs=1")
    for _ in range(10):
        before.train_step()
    folder = before.save_checkpoint(tmp_path)
    after = trainer_of(dataset, "train.steps=0", "train.epochs=1", "train.batch_size=2")
    after.load_checkpoint(folder)
    left = before.place.batches.samples_per_epoch - before.place.sample_index
    assert before.target_step == 10 + math.ceil(left / 4)
    assert after.target_step == 10 + math.ceil(left / 2)


def test_an_epoch_ends_where_the_corpus_does(dataset: Dataset) -> None:
    """`train_epoch` stops at the first step that has seen every sequence."""
    trainer = trainer_of(dataset, "train.batch_size=64", "data.context=64", "train.epochs=2", "train.steps=0")
    trainer.train_epoch()
    assert trainer.step == math.ceil(trainer.place.batches.samples_per_epoch / 64)
    assert trainer.train_epoch() < 4.0
    assert trainer.step == trainer.target_step


def test_a_non_finite_gradient_stops_before_the_update(dataset: Dataset) -> None:
    """The weights of the last good step are kept."""
    trainer = trainer_of(dataset)
    trainer.train_step()
    before = trainer.weights_sha256()
    trainer.accumulate()
    next(iter(trainer.model.parameters())).grad[0] = math.inf  # type: ignore[index]  # there is one after a backward pass
    with pytest.raises(NonFiniteLoss, match="step 2"):
        trainer.update(trainer.hyper(2))
    assert trainer.weights_sha256() == before
    assert trainer.step == 1


def test_a_saved_learning_rate_never_wins(dataset: Dataset, tmp_path: Path) -> None:
    """After a resume the rate is that of configuration and edits, whatever the optimizer's groups held when it was saved."""
    trainer = trainer_of(dataset)
    trainer.train_step()
    for group in trainer.optimizer.param_groups:
        group["lr"] = 123.0
    folder = trainer.save_checkpoint(tmp_path)
    resumed = trainer_of(dataset)
    resumed.load_checkpoint(folder)
    resumed.edits = [Edit(id="a", step=2, name="lr", value=1e-5)]
    resumed.train_step()
    assert {group["lr"] for group in resumed.optimizer.param_groups} == {1e-5}


def test_evaluation_is_a_mean_over_tokens(dataset: Dataset) -> None:
    """Untrained, the loss lies near that of guessing; bits per byte and perplexity follow from it."""
    trainer = trainer_of(dataset, "eval.batches=1000")
    result = trainer.evaluate()
    assert result.tokens == trainer.windows.num_windows * 16
    assert result.loss == pytest.approx(math.log(257), rel=0.15)
    assert result.perplexity == pytest.approx(math.exp(result.loss))
    assert result.bits_per_byte == pytest.approx(result.loss / math.log(2))
    assert 0.0 <= result.accuracy <= 1.0


def test_samples_repeat_and_follow_the_prompt_knob(dataset: Dataset) -> None:
    """The same step gives the same text; a prompt that the tokenizer does not know still gives one."""
    trainer = trainer_of(dataset)
    assert trainer.sample() == trainer.sample()
    assert trainer.sample("")[0] == ""
    trainer.edits = [Edit(id="p", step=0, name="prompt", value="Once")]
    assert trainer.sample()[0] == "Once"
    before = trainer.ranks.pulse.beats
    trainer.sample()
    assert trainer.ranks.pulse.beats == before + trainer.config.sample.tokens  # each token is a sign of life


def test_an_epoch_is_counted_in_sequences_not_steps(dataset: Dataset, tmp_path: Path) -> None:
    """After a resume with another batch size the pass still ends where the corpus does."""
    sets = ("data.context=64", "train.epochs=2", "train.steps=0")
    before = trainer_of(dataset, *sets, "train.batch_size=8")
    for _ in range(5):
        before.train_step()
    after = trainer_of(dataset, *sets, "train.batch_size=64")
    after.load_checkpoint(before.save_checkpoint(tmp_path))
    after.train_epoch()
    assert 0 <= after.place.sample_index - after.place.batches.samples_per_epoch < 64


def test_a_target_in_tokens_does_not_move_with_the_padding(tmp_path: Path) -> None:
    """Packed rows hold fewer tokens than their length: a resume must not find more steps left than there were."""
    lines = [json.dumps({"text": "ab" * (number % 13 + 1)}) for number in range(300)]
    (tmp_path / "documents.jsonl").write_text("\n".join(lines))
    sets = (f"data.train={tmp_path / 'documents.jsonl'}", "data.packing=best_fit", "train.steps=0", "train.tokens=3000")
    whole = Trainer(tiny(*sets))
    for _ in range(whole.target_step // 2):
        whole.train_step()
    assert whole.tokens < whole.step * whole.tokens_per_step
    resumed = Trainer(tiny(*sets))
    assert resumed.load_checkpoint(whole.save_checkpoint(tmp_path)) == []
    assert resumed.target_step == whole.target_step


@pytest.mark.parametrize("name", ["adamw", "muon", "lion", "sgd"])
def test_going_back_to_step_0_forgets_what_was_learned(dataset: Dataset, tmp_path: Path, name: str) -> None:
    """A checkpoint before the first step holds no averages: those of the trainer that loads it must go too."""
    trainer = trainer_of(dataset, f"optim.name={name}")
    folder = trainer.save_checkpoint(tmp_path)
    first = trainer.train()
    weights = trainer.weights_sha256()
    trainer.load_checkpoint(folder)
    assert (trainer.train(), trainer.weights_sha256()) == (first, weights)


def test_a_refused_checkpoint_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    """With another optimizer's state the weights are not loaded either."""
    other = trainer_of(dataset, "optim.name=lion")
    other.train_step()
    folder = other.save_checkpoint(tmp_path)
    trainer = trainer_of(dataset)
    trainer.train_step()
    before = trainer.weights_sha256()
    with pytest.raises(StorageError, match=r"optim\.name=lion"):
        trainer.load_checkpoint(folder)
    assert (trainer.step, trainer.weights_sha256()) == (1, before)


NOISY = """
import torch
from plt_tui.model.base import LanguageModel

class Noisy(LanguageModel):
    def __init__(self, shape, *, vocab_size, context, argument):
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.table = torch.nn.Embedding(vocab_size, vocab_size)
        if argument:
            self.added = torch.nn.Parameter(torch.zeros(3))
        self.drop = torch.nn.Dropout(0.5)

    def logits(self, ids):
        return self.drop(self.table(ids))

MODELS = {"noisy": Noisy}
"""


def test_a_plug_in_that_draws_numbers_resumes_to_the_same_bits(dataset: Dataset, tmp_path: Path) -> None:
    """Its dropout follows from seed and step, though `model.dropout` says nothing of it."""
    (tmp_path / "noisy.py").write_text(NOISY)
    plugins = Plugins((str(tmp_path / "noisy.py"),))
    whole = Trainer(tiny("model.arch=noisy"), dataset=dataset, plugins=plugins)
    for _ in range(5):
        whole.train_step()
    folder = whole.save_checkpoint(tmp_path)
    whole.train()
    resumed = Trainer(tiny("model.arch=noisy"), dataset=dataset, plugins=plugins)
    torch.manual_seed(99)
    assert resumed.load_checkpoint(folder) == []
    resumed.train()
    assert resumed.weights_sha256() == whole.weights_sha256()


def test_a_plug_in_that_changed_is_a_sentence(dataset: Dataset, tmp_path: Path) -> None:
    """Its parameters are compared with the checkpoint's, which the configuration cannot do."""
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "later.py").write_text(NOISY.replace("if argument", "if not argument"))
    before, trainer = (
        Trainer(tiny("model.arch=noisy"), dataset=dataset, plugins=Plugins((str(tmp_path / name),)))
        for name in ("noisy.py", "later.py")
    )
    folder = before.save_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="added is missing"):
        trainer.load_checkpoint(folder)


def test_train_compile_trains_the_compiled_model(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key reaches torch.compile, and the losses are the eager ones but for rounding; recomputation may be on too."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    trainer = trainer_of(dataset, "train.compile=true", "train.activation_checkpointing=true", "train.accumulate=2")
    halves = trainer_of(dataset, "train.accumulate=2")
    assert isinstance(trainer._replica, OptimizedModule)
    assert not isinstance(halves._replica, OptimizedModule)
    assert [trainer.train_step() for _ in range(3)] == pytest.approx([halves.train_step() for _ in range(3)], rel=1e-4)
    assert trainer.evaluate().loss == pytest.approx(halves.evaluate().loss, rel=1e-4)
