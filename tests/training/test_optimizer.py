"""Every optimizer by name: against references, told every step, saved and put back to the same bits."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from plt_tui.config.schema import ModelSection, OptimSection
from plt_tui.errors import StorageError
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import build_model
from plt_tui.model.groups import decay_groups
from plt_tui.training.optimizer import Optimizer, StepHyper, build_optimizer, load_state_tensors, state_tensors, tell
from plt_tui.training.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))
NAMES = ("adamw", "muon", "lion", "sgd")
HYPER = StepHyper(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, grad_clip=1.0)


def tiny_model(seed: int = 0) -> LanguageModel:
    """Two blocks with every kind of parameter."""
    shape = ModelSection(layers=2, width=32, heads=2, kv_heads=1, bias=True, norm="layernorm", position="learned")
    return build_model(shape, vocab_size=40, context=8, seed=seed)


def built(name: str, model: LanguageModel, **keys: float) -> Optimizer:
    """The optimizer of that name."""
    return build_optimizer(model, OptimSection.model_validate({"name": name, **keys}), ALONE)


def run_steps(optimizer: Optimizer | torch.optim.Optimizer, model: nn.Module, steps: range) -> None:
    """Steps whose gradients depend on the step alone."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        if isinstance(optimizer, Optimizer):
            tell(optimizer, HYPER)
        optimizer.step()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    """The same bits in every parameter."""
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, other.get_parameter(name)), name


def test_adamw_is_torchs() -> None:
    """The same bits as torch.optim.AdamW with the same groups."""
    ours, theirs = tiny_model(), tiny_model()
    run_steps(built("adamw", ours), ours, range(3))
    decayed, plain = decay_groups(theirs)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
    run_steps(reference, theirs, range(3))
    assert_equal(ours, theirs)


def test_muon_leaves_the_rest_to_adamw() -> None:
    """Tables, output layer, gains and biases end as with AdamW; the blocks' matrices do not."""
    ours, theirs = tiny_model(), tiny_model()
    run_steps(built("muon", ours), ours, range(2))
    run_steps(built("adamw", theirs), theirs, range(2))
    for name, tensor in weights(ours).items():
        is_hidden = name.startswith("blocks.") and tensor.ndim == 2
        assert torch.equal(tensor, theirs.get_parameter(name)) != is_hidden, name


def _lion(weight: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    average = torch.zeros_like(weight)
    for gradient in gradients:
        weight = weight - 3e-3 * (torch.sign(0.9 * average + 0.1 * gradient) + decay * weight)
        average = 0.95 * average + 0.05 * gradient
    return weight


def _sgd(weight: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        velocity = 0.95 * velocity + gradient
        weight = weight - 3e-3 * (gradient + 0.95 * velocity + decay * weight)
    return weight


@pytest.mark.parametrize(("name", "reference"), [("lion", _lion), ("sgd", _sgd)])
def test_lion_and_sgd_equal_a_plain_loop(name: str, reference: Callable[..., Tensor]) -> None:
    """The algorithm of the paper, one float64 parameter at a time, with decay for matrices only."""
    model = tiny_model()
    before, is_decayed = weights(model), {id(parameter) for parameter in decay_groups(model)[0]}
    run_steps(built(name, model), model, range(4))
    generators = [torch.Generator().manual_seed(step) for step in range(4)]
    for key, parameter in model.named_parameters():
        gradients = [torch.randn(parameter.shape, generator=generator).double() for generator in generators]
        expected = reference(before[key].double(), gradients, 0.1 if id(parameter) in is_decayed else 0.0)
        assert torch.allclose(parameter.detach().double(), expected, rtol=0, atol=1e-6), key


def test_sgd_is_torchs_where_nothing_decays() -> None:
    """The same bits as torch.optim.SGD with Nesterov momentum in every vector and table."""
    ours, theirs = tiny_model(), tiny_model()
    run_steps(built("sgd", ours), ours, range(3))
    run_steps(torch.optim.SGD(theirs.parameters(), lr=3e-3, momentum=0.95, nesterov=True), theirs, range(3))
    for one, other in zip(decay_groups(ours)[1], decay_groups(theirs)[1], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_quadratic_is_descended(name: str) -> None:
    """Each optimizer brings the weights nearer to where the loss is least, step after step."""
    model = tiny_model()
    targets = weights(tiny_model(seed=1))
    optimizer = built(name, model)
    losses = []
    for _ in range(30):
        loss = sum((parameter - targets[key]).square().sum() for key, parameter in model.named_parameters())
        assert isinstance(loss, Tensor)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        tell(optimizer, StepHyper(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, grad_clip=0.0))
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_group_held_never_wins(name: str) -> None:
    """Rates, betas and decay are those of the step, whatever was in the groups; matrices of muon have their own scale."""
    model = tiny_model()
    optimizer = built(name, model, matrix_lr_scale=2.0)
    decayed = {id(parameter) for parameter in decay_groups(model)[0]}
    for group in optimizer.param_groups:
        group.update(lr=9.0, weight_decay=9.0, betas=(0.0, 0.0))
    tell(optimizer, HYPER)
    for group in optimizer.param_groups:
        assert group["lr"] == (6e-3 if name == "muon" and "momentum" in group else 3e-3)
        assert group["betas"] == HYPER.betas
        assert group["weight_decay"] == (0.1 if id(group["params"][0]) in decayed else 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_gradients_give_the_same_bits(name: str) -> None:
    """Two runs of the same steps end equal."""
    one, other = tiny_model(), tiny_model()
    for model in (one, other):
        run_steps(built(name, model), model, range(3))
    assert_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_saved_state_continues_to_the_same_bits(name: str) -> None:
    """2 steps, saved and put back into a new optimizer, and 2 more end where 4 steps end."""
    whole, parts = tiny_model(), tiny_model()
    run_steps(built(name, whole), whole, range(4))
    before, after = built(name, parts), built(name, parts)
    run_steps(before, parts, range(2))
    load_state_tensors(after, parts, dict(state_tensors(before, parts)))
    run_steps(after, parts, range(2, 4))
    assert_equal(whole, parts)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_put_back_is_a_copy(name: str) -> None:
    """Later steps do not change the tensors of the checkpoint."""
    model, saved = tiny_model(), saved_by(name)
    before = {key: tensor.clone() for key, tensor in saved.items()}
    optimizer = built(name, model)
    load_state_tensors(optimizer, model, saved)
    run_steps(optimizer, model, range(1, 2))
    assert all(torch.equal(tensor, before[key]) for key, tensor in saved.items())


@pytest.mark.parametrize("name", NAMES)
def test_state_of_a_new_optimizer_is_none(name: str) -> None:
    """Before the first step there is nothing to save, and nothing is put back."""
    model = tiny_model()
    optimizer = built(name, model)
    saved = dict(state_tensors(optimizer, model))
    assert saved == {}
    load_state_tensors(optimizer, model, saved)
    assert dict(state_tensors(optimizer, model)) == {}


def saved_by(name: str) -> dict[str, Tensor]:
    """State after one step."""
    model = tiny_model()
    optimizer = built(name, model)
    run_steps(optimizer, model, range(1))
    return dict(state_tensors(optimizer, model))


def test_adamws_state_has_the_names_it_always_had() -> None:
    """Checkpoints stay readable."""
    assert {"step/norm.weight", "exp_avg/blocks.0.attention.qkv.weight", "exp_avg_sq/embedding.weight"} <= saved_by(
        "adamw"
    ).keys()


@pytest.mark.parametrize(("kept", "wanted"), itertools.permutations(NAMES, 2))
def test_state_of_another_optimizer_is_refused(kept: str, wanted: str) -> None:
    """The sentence names both optimizers and what to do."""
    model = tiny_model()
    with pytest.raises(StorageError, match=rf"optim\.name={kept}.*optim\.name={wanted}.*train\.init_from"):
        load_state_tensors(built(wanted, model), model, saved_by(kept))


@pytest.mark.parametrize("name", NAMES)
def test_state_that_does_not_fit_is_refused_by_name(name: str) -> None:
    """A missing tensor and one of another shape are both named."""
    model, saved = tiny_model(), saved_by(name)
    victim = next(key for key in saved if key.endswith("qkv.weight") and not key.startswith("step"))
    where = victim.replace("/", " of ")
    missing = {key: tensor for key, tensor in saved.items() if key != victim}
    with pytest.raises(StorageError, match=f"{where} is missing"):
        load_state_tensors(built(name, model), model, missing)
    with pytest.raises(StorageError, match=rf"{where} has the shape \(3,\) and not \(64, 32\)"):
        load_state_tensors(built(name, model), model, {**saved, victim: torch.zeros(3)})


def test_gradients_are_forgotten_in_place_or_altogether() -> None:
    """In place keeps DDP's views; without gradients there is nothing to do."""
    model = tiny_model()
    optimizer = built("muon", model)
    optimizer.zero_grad(set_to_none=False)
    run_steps(optimizer, model, range(1))
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    optimizer.zero_grad(set_to_none=False)
    assert all(parameter.grad is gradients[name] and not parameter.grad.any() for name, parameter in model.named_parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_that_took_no_part_has_gradient_zero(name: str) -> None:
    """It keeps state like the others, so that a resume finds everything."""
    model = tiny_model()
    optimizer = built(name, model)
    model.get_parameter("blocks.1.ffn.down.weight").requires_grad_(requires_grad=False)  # so that it is given no gradient
    run_steps(optimizer, model, range(1))
    model.get_parameter("blocks.1.ffn.down.weight").requires_grad_(requires_grad=True)
    assert dict(state_tensors(optimizer, model)).keys() == saved_by(name).keys()


def test_frozen_parameters_have_no_state() -> None:
    """What does not train is neither saved nor asked for."""
    model = tiny_model()
    model.get_parameter("embedding.weight").requires_grad_(requires_grad=False)
    optimizer = built("muon", model)
    run_steps(optimizer, model, range(1))
    saved = dict(state_tensors(optimizer, model))
    assert saved
    assert not any("embedding" in key for key in saved)
    load_state_tensors(built("muon", model), model, saved)
