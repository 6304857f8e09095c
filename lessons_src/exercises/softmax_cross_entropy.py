"""Exercises of lesson 02: softmax, cross-entropy and their gradients."""

import math

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise


def logits_and_labels(draw):
    """logits (B, K) and labels (B,), in float32 or float64."""
    n, classes = draw.size, draw.integer(2, 3 + draw.size)
    dtype = draw.choice(torch.float32, torch.float64)
    return draw.normal(n, classes, scale=2, dtype=dtype), draw.labels(n, classes)


def gradient(loss, at):
    """The gradient of a loss, by autograd."""
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def shifted_softmax(z, shift):
    """The formula, with what is subtracted from the logits."""
    e = torch.exp(z - shift)
    return e / e.sum(-1, keepdim=True)


@exercise(
    inputs=lambda draw: (
        draw.normal(*draw.choice((3,), (draw.size, 4), (2, 3, 1 + draw.size))),
        draw.choice(1, draw.uniform(0.3, 4)),
    ),
    cases={
        "exp overflows at 89: subtract each row's own maximum first.": (
            torch.tensor([[1000.0, 0.0], [-1000.0, -999.0]]),
            1.0,
        ),
        "A small T makes large logits: divide by T before you subtract the maximum.": (
            torch.tensor([2.0, -1.0, 0.5]),
            0.001,
        ),
    },
    mistakes={
        "Divide the logits by T, do not multiply.": lambda z, T: torch.softmax(z * T, -1),
        "The sum runs over the last dimension.": lambda z, T: torch.softmax(z / T, 0),
        "The last dimension is -1, whatever comes before it.": (
            lambda z, T: torch.softmax(z / T, 1)
        ),
        "exp overflows at 89: subtract the maximum, each row its own.": (
            lambda z, T: shifted_softmax(z / T, 0)
        ),
        "One maximum for all rows makes 0 / 0 of a low row: each row has its own.": (
            lambda z, T: shifted_softmax(z / T, z.max() / T)
        ),
    },
    hint="Divide the logits by T, then subtract the largest of each row.",
)
def softmax_at(logits, T):
    """Softmax of logits / T over the last dimension, without overflow."""
    return torch.softmax(logits / T, -1)


def in_bits(nats):
    """The mean, in bits, of what `nats` gives for each example."""
    return lambda z, y: nats(z, y).mean() / math.log(2)


@exercise(
    inputs=logits_and_labels,
    cases={
        "Eight equal classes cost 3 bits.": (torch.zeros(3, 8), torch.tensor([0, 1, 7])),
        "At logits in the thousands exp overflows: subtract the maximum.": (
            1000 * torch.tensor([[1.0, -2.0, 0.5], [-3.0, 1.5, 2.0]]),
            torch.tensor([1, 2]),
        ),
    },
    mistakes={
        "These are nats: divide by log 2.": F.cross_entropy,
        "The mean over the batch, not the sum.": in_bits(
            lambda z, y: F.cross_entropy(z, y, reduction="sum")
        ),
        "A loss is positive: check the sign.": in_bits(
            lambda z, y: -F.cross_entropy(z, y)
        ),
        "Pick the label's own logit, not the largest.": in_bits(
            lambda z, y: z.logsumexp(1) - z.amax(1)
        ),
        "logits[:, y] picks every label in every row: pair rows and labels.": in_bits(
            lambda z, y: -torch.log_softmax(z, 1)[:, y]
        ),
        "exp overflows: use torch.logsumexp, or subtract the maximum.": in_bits(
            lambda z, y: z.exp().sum(1).log() - z[torch.arange(len(y)), y]
        ),
    },
    hint="It is the mean of logsumexp minus the label's own logit, divided by log 2.",
)
def bits_per_label(logits, y):
    """Mean cross-entropy in bits."""
    return F.cross_entropy(logits, y) / math.log(2)


def error(logits, one_hot):
    """(p - y) / B."""
    return (torch.softmax(logits, 1) - one_hot) / len(logits)


def image_gradient(dz):
    """An input_gradient with a mistake in dz(z, y, K), its gradient at the logits."""
    return lambda x, y, W, b: dz(x @ W.T + b, y, len(b)) @ W


@exercise(
    inputs=lambda draw: (
        draw.normal(draw.size, 1 + draw.size),
        draw.labels(draw.size, 3 + draw.size),
        draw.normal(3 + draw.size, 1 + draw.size),
        draw.normal(3 + draw.size),
    ),
    mistakes={
        "The sign is p minus y.": image_gradient(
            lambda z, y, K: -error(z, F.one_hot(y, K))
        ),
        "The loss is a mean over the batch: divide by B.": image_gradient(
            lambda z, y, K: torch.softmax(z, 1) - F.one_hot(y, K)
        ),
        "F.one_hot(y) stops at the largest label in y: tell it K.": image_gradient(
            lambda z, y, K: error(z, F.one_hot(y))
        ),
        "p is the softmax of x W^T + b, with the bias.": (
            lambda x, y, W, b: error(x @ W.T, F.one_hot(y, len(b))) @ W
        ),
    },
    hint="It is (p - y) @ W / B, with p the softmax of x W^T + b.",
)
def input_gradient(x, y, W, b):
    """Gradient of the mean cross-entropy with respect to the images."""
    return gradient(lambda x: F.cross_entropy(F.linear(x, W, b), y), x)


def smoothed(q):
    """A wrong smoothed_gradient, from its rows q(y, alpha, K)."""
    return lambda z, y, alpha: error(z, q(y, alpha, z.shape[1]))


@exercise(
    inputs=lambda draw: (*logits_and_labels(draw), draw.choice(0, 1, draw.uniform())),
    mistakes={
        "alpha / K goes to each of all K classes, the label among them.": smoothed(
            lambda y, alpha, K: (
                (1 - alpha) * F.one_hot(y, K) + alpha * (1 - F.one_hot(y, K)) / (K - 1)
            )
        ),
        "The label keeps 1 - alpha: the rows of q sum to 1.": smoothed(
            lambda y, alpha, K: F.one_hot(y, K) + alpha / K
        ),
        "Without alpha it is the gradient of plain cross-entropy.": smoothed(
            lambda y, alpha, K: F.one_hot(y, K)
        ),
        "F.one_hot(y) stops at the largest label in y: tell it K.": smoothed(
            lambda y, alpha, K: (1 - alpha) * F.one_hot(y) + alpha / K
        ),
    },
    hint="It is (p - q) / B, with q = (1 - alpha) y + alpha / K.",
)
def smoothed_gradient(logits, y, alpha):
    """Gradient of the mean cross-entropy under label smoothing."""
    return gradient(lambda z: F.cross_entropy(z, y, label_smoothing=alpha), logits)


@exercise(
    inputs=lambda draw: (
        draw.normal(draw.size, 2 + draw.size),
        torch.log_softmax(draw.normal(draw.size, 2 + draw.size), 1),
    ),
    mistakes={
        "For another loss the entries of g do not sum to -1: the factor before p_j is "
        "that sum.": lambda g, log_p: g + log_p.exp(),
        "Minus: for g = -y it must give p - y.": (
            lambda g, log_p: g + log_p.exp() * g.sum(1, keepdim=True)
        ),
        "Sum over the classes of each row, not over the batch.": (
            lambda g, log_p: g - log_p.exp() * g.sum(0, keepdim=True)
        ),
        "This goes back through softmax: g is the gradient with respect to log p.": (
            lambda g, log_p: log_p.exp() * (g - (g * log_p.exp()).sum(1, keepdim=True))
        ),
    },
    hint="It is g_j - p_j times the sum of the row's g: for g = -y it must give p - y.",
)
def log_softmax_backward(g, log_p):
    """Gradient with respect to the logits, for any gradient g with respect to log p."""
    return gradient(lambda z: (g * torch.log_softmax(z, 1)).sum(), log_p)
