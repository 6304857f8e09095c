"""Exercises of the lesson on gradient descent.

The safe rate, coverage, the noise of a batch, and mini-batch descent.
"""

import math

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import AUTOGRAD, without


def drawn_hessian(draw):
    """A symmetric matrix, with eigenvalues from 0.5 to 20 (or thousandths of these), not
    sorted."""
    scale = draw.choice(1, 0.001)
    eigenvalues = [scale * draw.uniform(0.5, 20) for _ in range(1 + draw.size)]
    q, _ = torch.linalg.qr(draw.normal(1 + draw.size, 1 + draw.size))
    return (q @ torch.diag(torch.tensor(eigenvalues).double()) @ q.T,)


@exercise(
    inputs=drawn_hessian,
    cases={
        "The largest eigenvalue, wherever it stands.": (
            torch.diag(torch.tensor([8.0, 2])),
        )
    },
    mistakes={
        "The bound is 2 / λmax: a 2 above it.": lambda H: (
            1 / torch.linalg.eigvalsh(H)[-1]
        ),
        "The largest eigenvalue, not the smallest.": lambda H: (
            2 / torch.linalg.eigvalsh(H)[0]
        ),
        "The diagonal holds eigenvalues of diagonal matrices only.": lambda H: (
            2 / H.diagonal().max()
        ),
        "The largest row sum is at least λmax, but seldom λmax itself.": lambda H: (
            2 / H.abs().sum(1).max()
        ),
    },
    hint="The bound is 2 / λmax: the largest eigenvalue, and a 2 above it.",
)
def largest_safe_lr(H):
    """2 / λmax of a symmetric matrix (D, D)."""
    return 2 / torch.linalg.matrix_norm(H, 2).item()


@exercise(
    inputs=lambda draw: (
        draw.choice(draw.integer(1, 4 * draw.size), draw.integer(1, 5000)),
        draw.choice(draw.integer(0, 9 * draw.size), draw.integer(0, 9000)),
    ),
    tolerance=1e-6,
    cases={
        "One draw from one example sees all of them.": (1, 1),
        "Nothing drawn, nothing seen.": (10, 0),
        "The power is the number of draws, not n.": (100, 250),
        "5,000 are not infinitely many, and float32 has too few digits for the power.": (
            5000,
            5000,
        ),
    },
    mistakes={
        "e is only the limit for many examples: raise 1 - 1/n to a power.": (
            lambda n, draws: 1 - math.exp(-draws / n)
        ),
        "The power is the number of draws: it need not be n.": lambda n, draws: (
            1 - (1 - 1 / n) ** n
        ),
        "Draws with replacement hit some examples twice: draws / n is too much.": (
            lambda n, draws: min(1.0, draws / n)
        ),
    },
    hint="All draws miss an example with the probability (1 - 1/n) ** draws.",
)
def share_seen(n, draws):
    """The expected share of n examples in draws with replacement: 1 - (1 - 1/n)^draws."""
    return 1 - (1 - 1 / n) ** draws


def spread(gradients):
    """Mean squared distance of single gradients (N, D) to their mean."""
    return (gradients - gradients.mean(0)).square().sum(1).mean().item()


def with_factor(factor):
    """A wrong batch_noise, from what its σ² is multiplied by."""
    return lambda gradients, B: spread(gradients) * factor(len(gradients), B)


def drawn_gradients(draw):
    """N gradients of size D about a mean that is not zero, and a batch size up to N."""
    N = draw.integer(2, 4 + 4 * draw.size)
    return draw.numbers(N, draw.size) + draw.normal(draw.size), draw.integer(1, N)


@exercise(
    inputs=drawn_gradients,
    cases={
        "A batch of all examples has no noise.": (torch.eye(4).double(), 4),
        "A batch of one has all of it, σ².": (torch.eye(4).double(), 1),
    },
    mistakes={
        "That is the noise with replacement: (N - B) / (N - 1) is missing.": with_factor(
            lambda N, B: 1 / B
        ),
        "The last factor is (N - B) / (N - 1), not (N - B) / N.": with_factor(
            lambda N, B: (N - B) / N / B
        ),
        "The mean squared error falls as 1 / B; its root falls as 1 / √B.": with_factor(
            lambda N, B: (N - B) / (N - 1) / B**0.5
        ),
        "σ² is the squared distance to the full gradient, not to zero.": lambda g, B: (
            g.square().sum(1).mean().item() / B * (len(g) - B) / (len(g) - 1)
        ),
        "‖ξ‖² is the sum over the entries of ξ, not their mean.": lambda g, B: (
            spread(g) / g.shape[1] / B * (len(g) - B) / (len(g) - 1)
        ),
        "σ² is a mean over all N examples: divide by N, not by N - 1.": lambda g, B: (
            g.var(0).sum().item() / B * (len(g) - B) / (len(g) - 1)
        ),
    },
    hint="σ² is the mean of ‖gᵢ - g‖²; multiply it by (N - B) / (N - 1), and divide by B.",
)
def batch_noise(gradients, B):
    """Mean squared error of a batch's gradient, drawn without replacement: (N, D) -> float."""
    N = len(gradients)
    return spread(gradients) * (N - B) / (B * (N - 1))


def drawn_training(draw):
    """Weights, images, labels, a rate, a batch size, and two orders or more."""
    N, D = draw.integer(3, 3 + 4 * draw.size), 1 + draw.size
    K, epochs = draw.integer(2, 3 + draw.size), draw.integer(2, 3 + draw.size // 4)
    orders = [torch.randperm(N, generator=draw.generator) for _ in range(epochs)]
    return (
        draw.normal(K, D),
        draw.normal(N, D),
        draw.labels(N, K),
        draw.uniform(0.1, 1),
        draw.integer(1, N - 1),
        orders,
    )


def trained(gradient, cut=lambda order, size: order.split(size), sign=-1):
    """A wrong train_linear, from its gradient and the way it cuts an order."""

    def answer(W, x, labels, lr, batch_size, orders):
        y = F.one_hot(labels, len(W)).to(x.dtype)
        for order in orders:
            for index in cut(order, batch_size):
                g = gradient(x[index] @ W.T, y[index], x[index], batch_size)
                W = W + sign * lr * g
        return W

    return answer


def cross_entropy_gradient(z, y, x, size):
    """The right one: mean over the batch of (p - y) xᵀ."""
    return (z.softmax(1) - y).T @ x / len(x)


@exercise(
    inputs=drawn_training,
    observe=without(*AUTOGRAD),
    tolerance=1e-8,
    largest=12,
    cases={
        "The last batch is short: divide by the examples that are in it.": (
            torch.tensor([[0.5, -1.0], [0.25, 2.0]]).double(),
            torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.0, -3.0]]).double(),
            torch.tensor([0, 1, 1]),
            0.5,
            2,
            [torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])],
        ),
        "With logits near 1000 exp overflows: use softmax, or subtract the maximum.": (
            torch.tensor([[9.0, 0.0], [9.5, 0.0], [0.0, 0.1]]).double(),
            torch.tensor([[100.0, 1.0], [-110.0, 2.0], [105.0, -1.0]]).double(),
            torch.tensor([0, 1, 2]),
            0.1,
            2,
            [torch.tensor([0, 1, 2])],
        ),
    },
    mistakes={
        "The gradient is that of the mean: divide by the number of examples.": trained(
            lambda z, y, x, size: (z.softmax(1) - y).T @ x
        ),
        "A short last batch has fewer examples: divide by what is in the batch.": trained(
            lambda z, y, x, size: (z.softmax(1) - y).T @ x / size
        ),
        "Use the short last batch too.": trained(
            cross_entropy_gradient,
            lambda order, size: [b for b in order.split(size) if len(b) == size],
        ),
        "Take the examples in the order that is given.": trained(
            cross_entropy_gradient, lambda order, size: order.sort().values.split(size)
        ),
        "One step for each batch, not one for each epoch.": trained(
            cross_entropy_gradient, lambda order, size: [order]
        ),
        "Go against the gradient: subtract it.": trained(cross_entropy_gradient, sign=1),
        "Softmax comes before the difference: p - y, not z - y.": trained(
            lambda z, y, x, size: (z - y).T @ x / len(x)
        ),
        "Softmax goes over the classes, the last axis of the logits.": trained(
            lambda z, y, x, size: (z.softmax(0) - y).T @ x / len(x)
        ),
    },
    hint="For each batch: p = softmax(x Wᵀ), the gradient (p - y)ᵀ x / B, and one step.",
)
def train_linear(W, x, labels, lr, batch_size, orders):
    """Mini-batch descent by autograd and torch.optim.SGD: the new weights (K, D)."""
    W = W.clone().requires_grad_()
    optimizer = torch.optim.SGD([W], lr=lr)
    for order in orders:
        for index in order.split(batch_size):
            loss = F.cross_entropy(x[index] @ W.T, labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return W.detach()
