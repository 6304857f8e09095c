"""Exercises: a good nudge, a wrong δ, leaky ReLU's start, a gradient check from nothing."""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from lessons_src.exercises import exercise


def central(h, width=2.0):
    """A `slope` with this step; the true width is 2."""
    return lambda f, x: (f(x + h) - f(x - h)) / (width * h)


@exercise(
    inputs=lambda draw: (
        draw.choice(math.sin, math.cos, math.exp, math.tanh),
        draw.uniform(-3, 3),
    ),
    tolerance=1e-8,
    cases={
        "x may be 0, and a step that is a multiple of x is none there.": (math.sin, 0.0),
        "A slope may be negative.": (math.cos, 1.0),
    },
    mistakes={
        "A forward difference is off by h/2 f′′: use f(x + h) and f(x − h).": (
            lambda f, x: (f(x + 1e-5) - f(x)) / 1e-5
        ),
        "From x − h to x + h it is 2h: divide by 2h.": central(1e-5, width=1.0),
        "The step is so small that rounding is large: take h near 1e-5.": central(1e-11),
        "The step is so large that h²/6 f′′′ shows: take h near 1e-5.": central(1e-2),
    },
    hint="(f(x + h) − f(x − h)) / 2h, with h near 1e-5.",
)
def slope(f, x):
    """f'(x), by autograd on torch's function of the same name."""
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(getattr(torch, f.__name__)(leaf), leaf)[0].item()


def drawn_network(draw):
    """The arguments of `backward` for a random network; f is given by its name."""
    f = draw.choice("tanh", "sigmoid", "relu")
    widths = [draw.integer(1, 2 + draw.size) for _ in range(draw.integer(2, 4))]
    weights = [draw.normal(n_out, n_in) for n_in, n_out in pairwise(widths)]
    inputs, zs = [draw.normal(draw.size, widths[0])], []
    for W in weights:
        zs.append(inputs[-1] @ W.T + draw.normal(len(W)))
        inputs.append(getattr(torch, f)(zs[-1]))
    return draw.numbers(*zs[-1].shape), inputs[:-1], zs, weights, f


def derivative(f):
    """f' for NumPy arrays, of torch's function with this name."""

    def f_prime(z):
        leaf = torch.tensor(z, requires_grad=True)
        return torch.autograd.grad(getattr(torch, f)(leaf).sum(), leaf)[0].numpy()

    return f_prime


def as_tensors(value):
    """NumPy arrays as tensors, in lists and tuples as well."""
    if isinstance(value, list | tuple):
        return [as_tensors(part) for part in value]
    return torch.as_tensor(value) if hasattr(value, "__array__") else value


def in_numpy(answer, delta, inputs, zs, weights, f):
    """What the answer gives for NumPy arrays, as the page has them: an `observe`."""
    arrays = [[x.numpy() for x in given] for given in (inputs, zs, weights)]
    return as_tensors(answer(delta.numpy(), *arrays, derivative(f)))


def backward_with(
    weight=lambda delta, a: delta.T @ a,
    bias=lambda delta: delta.sum(0),
    slope=lambda f_prime, inputs, zs, layer: f_prime(zs[layer - 1]),
):
    """Backpropagation, with a part of it replaced."""

    def answer(delta, inputs, zs, weights, f_prime):
        grads = []
        for layer in reversed(range(len(weights))):
            grads.insert(0, (weight(delta, inputs[layer]), bias(delta)))
            if layer > 0:
                delta = (delta @ weights[layer]) * slope(f_prime, inputs, zs, layer)
        return grads

    return answer


@exercise(
    inputs=drawn_network,
    observe=in_numpy,
    mistakes={
        "Look at what f′ is evaluated at: for ReLU f′(z) and f′(a) are the same.": (
            backward_with(slope=lambda f_prime, inputs, zs, layer: f_prime(inputs[layer]))
        ),
        "The step down is (delta @ W) * f′(z): the slope is missing.": (
            backward_with(slope=lambda f_prime, inputs, zs, layer: 1.0)
        ),
        "dC/db is delta summed over the batch: the 1/B is in delta already.": (
            backward_with(bias=lambda delta: delta.mean(0))
        ),
        "dC/dW is deltaᵀ @ inputs, with this sign.": (
            backward_with(weight=lambda delta, a: -delta.T @ a)
        ),
    },
    hint="dC/dW is deltaᵀ @ inputs, dC/db is delta summed over the batch, and the step "
    "down is (delta @ W) * f′(z): the W of the layer above, and the z of the layer below.",
)
def repaired_backward(delta, inputs, zs, weights, f_prime):
    """[(dW, db), ...] of each layer, first layer first."""
    return backward_with()(delta, inputs, zs, weights, f_prime)


@exercise(
    inputs=lambda draw: (
        draw.integer(1, 20 * draw.size**2),
        draw.choice(0.0, 1.0, draw.uniform()),
    ),
    mistakes={
        "The negative half counts too: E[f²] = ½ (1 + α²) E[z²].": (
            lambda n_in, slope: math.sqrt(2 / n_in)
        ),
        "The answer is σ, not σ².": lambda n_in, slope: 2 / ((1 + slope**2) * n_in),
        "The slope is squared with z: 1 + α², not 1 + α.": (
            lambda n_in, slope: math.sqrt(2 / ((1 + slope) * n_in))
        ),
    },
    hint="E[f²] = ½ (1 + α²) E[z²]; n_in σ² E[f²] = E[z²]; and the answer is σ, not σ².",
)
def leaky_std(n_in, slope):
    """The standard deviation of the weights that keeps the size of z."""
    return nn.init.calculate_gain("leaky_relu", slope) / math.sqrt(n_in)


class SumOfTanh:
    """The loss Σ A tanh(w), for NumPy arrays w."""

    def __init__(self, A):
        self.A = A.numpy()

    def __call__(self, w):
        return float((self.A * np.tanh(w)).sum())

    def __repr__(self):
        return f"Σ A tanh(w) with A = {self.A.round(2).tolist()}"

    def __deepcopy__(self, memo):  # nothing changes it, and a copy would not be equal
        return self


def drawn_claim(draw):
    """A loss, its w, and a gradient that is right, wrong everywhere, or in one entry."""
    shape = [draw.integer(1, 1 + draw.size) for _ in range(draw.integer(1, 2))]
    A, w = draw.normal(*shape), draw.normal(*shape)
    scale = draw.choice(1e-3, 1.0, 1e3)
    A *= scale
    right = A * (1 - torch.tanh(w) ** 2)
    one_off = right.clone()
    one_off.view(-1)[-1] *= -1
    noisy = right + 0.3 * scale * draw.normal(*shape)
    return SumOfTanh(A), w, draw.choice(right, one_off, noisy)


def claim_in_numpy(answer, loss, w, grad):
    """What the answer gives for NumPy arrays, which share the tensors' memory."""
    return answer(loss, w.numpy(), grad.numpy())


def check_with(
    step=lambda loss, up, down, h: (loss(up) - loss(down)) / (2 * h),
    compare=lambda gap, g, g_hat: gap / (g + g_hat) if g + g_hat else 0.0,
    after=lambda w, i, h: None,
):
    """A gradient check, with a part of it replaced."""

    def answer(loss, w, grad, h=1e-5):
        nudged = np.zeros_like(w)
        for i in np.ndindex(w.shape):
            up, down = w.copy(), w.copy()
            up[i] += h
            down[i] -= h
            nudged[i] = step(loss, up, down, h)
            after(w, i, h)
        norm = np.linalg.norm
        return float(compare(norm(grad - nudged), norm(grad), norm(nudged)))

    return answer


def leave_moved(w, i, h):
    """A mistake: the entry is not put back."""
    w[i] += h


@exercise(
    inputs=drawn_claim,
    observe=claim_in_numpy,
    cases={
        "Both gradients are 0: the answer is 0, and not 0/0.": (
            SumOfTanh(torch.zeros(2, dtype=torch.float64)),
            torch.ones(2, dtype=torch.float64),
            torch.zeros(2, dtype=torch.float64),
        ),
        "The answer is 0 only where both gradients are 0: here one is.": (
            SumOfTanh(torch.ones(2, dtype=torch.float64)),
            torch.ones(2, dtype=torch.float64),
            torch.zeros(2, dtype=torch.float64),
        ),
        "Gradients may be small, and still wrong: add nothing to the norms.": (
            SumOfTanh(torch.full((2,), 1e-9, dtype=torch.float64)),
            torch.zeros(2, dtype=torch.float64),
            torch.full((2,), -1e-9, dtype=torch.float64),
        ),
        "w may be a single number: np.ndindex(()) gives its one index.": (
            SumOfTanh(torch.tensor(2.0, dtype=torch.float64)),
            torch.tensor(0.5, dtype=torch.float64),
            torch.tensor(1.0, dtype=torch.float64),
        ),
        "w may have any number of dimensions: here three.": (
            SumOfTanh(torch.arange(1.0, 7, dtype=torch.float64).view(3, 1, 2)),
            torch.arange(6, dtype=torch.float64).view(3, 1, 2) / 4,
            torch.ones(3, 1, 2, dtype=torch.float64),
        ),
    },
    tolerance=1e-7,  # a forward difference is off by more
    mistakes={
        "Take the nudge in both directions: a forward difference is off by 1e-6 and more,"
        " and a right gradient then looks wrong.": check_with(
            step=lambda loss, up, down, h: (loss(up) - loss((up + down) / 2)) / h
        ),
        "The error is relative: divide by the norms of both gradients together.": (
            check_with(compare=lambda gap, g, g_hat: gap)
        ),
        "Divide by the sum of both norms, not by that of one gradient.": (
            check_with(compare=lambda gap, g, g_hat: gap / g_hat if g_hat else 0.0)
        ),
        "From w − h to w + h it is 2h: divide by 2h.": (
            check_with(step=lambda loss, up, down, h: (loss(up) - loss(down)) / h)
        ),
        "Put each entry back before you move the next one.": check_with(
            after=leave_moved
        ),
    },
    hint="r = ‖g − ĝ‖ / (‖g‖ + ‖ĝ‖), where ĝ holds (loss(w + h) − loss(w − h)) / 2h for "
    "each entry.",
)
def gradient_check(loss, w, grad):
    """The relative error of grad against autograd's gradient."""
    leaf = torch.tensor(w, requires_grad=True)
    cost = (torch.tensor(loss.A) * torch.tanh(leaf)).sum()
    (true,) = torch.autograd.grad(cost, leaf)
    size = true.norm() + np.linalg.norm(grad)
    return ((true - torch.tensor(grad)).norm() / size).item() if size else 0.0
