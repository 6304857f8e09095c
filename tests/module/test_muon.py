"""lessons_src.muon: Muon does what its formula says, and AdamW does the rest."""

import copy

import pytest
import torch
from torch import nn

from lessons_src.muon import Muon, orthogonal


def network(kernel=3):
    """Two convolutions with a norm, and a linear layer."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, kernel, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 4, 3, bias=False), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def train(model, optimizer, steps, seed=0):
    """Some steps on noise."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 1, 6, 6, generator=generator)
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(5, 5), (3, 40), (40, 3), (1, 9), (96, 288)])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_orthogonal_keeps_the_singular_vectors_and_makes_the_values_one(shape, scale):
    """Against PyTorch's own decomposition, where no value is tiny: wide, tall, far off."""
    torch.manual_seed(1)
    U, _, Vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.05, 1, len(Vh))
    core = U.T @ orthogonal(scale * (U * values) @ Vh) @ Vh.T  # diagonal, if it is so
    assert core.diag().min() > 0.6 and core.diag().max() < 1.3
    torch.testing.assert_close(core, core.diag().diag(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_each_step_puts_the_polynomial_in_the_place_of_a_value(steps):
    """From singular values of length one; five steps where none are named."""
    values = torch.tensor([0.8, 0.6, 0.0])
    for s in (values, torch.flip(values, [0])):
        matrix, s = torch.diag(s), s.clone()
        for _ in range(steps):
            s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
        torch.testing.assert_close(orthogonal(matrix, steps), torch.diag(s))
        assert torch.equal(orthogonal(matrix), orthogonal(matrix, 5))
    with pytest.raises(ValueError, match="steps must be a whole number, 0 or more"):
        orthogonal(torch.eye(2), -1)


def test_a_matrix_of_zeros_stays():
    """No division by its length, which is 0."""
    assert torch.equal(orthogonal(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_a_kernel_moves_by_the_formula():
    """Length √out, then lr along the orthogonal momentum that looks ahead, step by step."""
    model, plain = network(), network()
    optimizer = Muon(model.parameters(), lr=0.1, momentum=0.6)
    others = [p for p in plain.parameters() if p.ndim != 4]
    adamw = torch.optim.AdamW(others, lr=0.01, weight_decay=0.01)
    kernels = [layer.weight for layer in (plain[0], plain[3])]
    velocity = [torch.zeros_like(kernel) for kernel in kernels]
    for step in range(3):
        train(model, optimizer, 1, seed=step)
        train(plain, adamw, 1, seed=step)
        for k, kernel in enumerate(kernels):
            velocity[k] = 0.6 * velocity[k] + kernel.grad
            ahead = (kernel.grad + 0.6 * velocity[k]).flatten(1)
            update = orthogonal(ahead).view(kernel.shape)
            length = kernel.detach().square().sum().sqrt()
            kernel.data = kernel.data / length * len(kernel) ** 0.5 - 0.1 * update
            kernel.grad = None
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_kernel_that_is_fixed_stays():
    """It has no gradient, and the rest is trained without it."""
    model = network()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    train(model, Muon(model.parameters(), lr=0.1), 2)
    after = model.state_dict()
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert same == ["0.weight"]


def test_a_saved_state_goes_on_to_the_last_digit():
    """Two steps, saved and loaded, two more: as four in one go."""
    whole, half = network(), network()
    train(whole, first := Muon(whole.parameters(), lr=0.1), 2)
    train(half, second := Muon(half.parameters(), lr=0.1), 2)
    again = Muon(half.parameters(), lr=0.5)
    again.load_state_dict(copy.deepcopy(second.state_dict()))
    train(whole, first, 2, seed=1)
    train(half, again, 2, seed=1)
    assert all(map(torch.equal, whole.parameters(), half.parameters()))


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2, 3, 4), [[1.0]]])
def test_what_is_no_matrix_is_refused(wrong):
    """With a sentence that names what is needed."""
    with pytest.raises(ValueError, match="matrix"):
        orthogonal(wrong)


def test_a_momentum_of_one_or_more_is_refused():
    """The sum of gradients would never fade."""
    with pytest.raises(ValueError, match="momentum must be a number"):
        Muon(network().parameters(), lr=0.1, momentum=1.5)


def test_its_settings_are_among_those_of_every_optimizer():
    """A recipe's description reads them there."""
    optimizer = Muon(network().parameters(), lr=0.1, adam_lr=0.02, momentum=0.5)
    settings = {"lr": 0.1, "adam_lr": 0.02, "momentum": 0.5, "weight_decay": 0.01}
    assert settings.items() <= optimizer.defaults.items()
