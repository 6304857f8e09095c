"""Exercises of the lesson on cross-entropy: the loss, its gradients, a classifier."""

import math

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import AUTOGRAD, without


def logits_and_labels(draw):
    """logits (B, K) and labels (B,), in float32 or float64."""
    n, classes = draw.size, draw.integer(2, 3 + draw.size)
    dtype, scale = draw.choice(
        (torch.float32, 2), (torch.float64, 2), (torch.float64, 500)
    )
    return draw.normal(n, classes, scale=scale, dtype=dtype), draw.labels(n, classes)


def gradient(loss, at):
    """The gradient of a loss, by autograd."""
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def in_bits(nats):
    """The mean, in bits, of what `nats` gives for each example."""
    return lambda z, y: nats(z, y).mean() / math.log(2)


@exercise(
    inputs=logits_and_labels,
    observe=without("cross_entropy"),
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
        draw.numbers(draw.size, 1 + draw.size),
        draw.labels(draw.size, 3 + draw.size),
        draw.normal(3 + draw.size, 1 + draw.size),
        draw.normal(3 + draw.size),
    ),
    observe=without(*AUTOGRAD),
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
        draw.numbers(draw.size, 2 + draw.size),
        torch.log_softmax(
            draw.normal(draw.size, 2 + draw.size, scale=draw.choice(1, 1, 100)), 1
        ),
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


def descended(change_of):
    """A wrong classifier, from change_of(x, y, W, b, K): what a step subtracts, by lr."""

    def classifier(x, y, classes, steps, lr):
        W = torch.zeros(classes, x.shape[1], dtype=x.dtype)
        b = torch.zeros(classes, dtype=x.dtype)
        for _ in range(steps):
            dW, db = change_of(x, y, W, b, classes)
            W, b = W - lr * dW, b - lr * db
        return W, b

    return classifier


def through(dz, x):
    """The gradients of W and b from that of the logits."""
    return dz.T @ x, dz.sum(0)


def drawn_descent(draw):
    """Images, labels, how many classes there are, the steps, and a rate."""
    N, classes = 2 + 2 * draw.size, draw.integer(2, 3 + draw.size)
    x, y = draw.normal(N, 1 + draw.size), draw.labels(N, classes)
    return x, y, classes, draw.integer(2, 20), draw.uniform(0.1, 2)


@exercise(
    inputs=drawn_descent,
    observe=without(*AUTOGRAD),
    cases={
        "Pixels up to 255 make large logits: use torch.softmax, or subtract the maximum.": (
            255 * torch.eye(3, dtype=torch.float64),
            torch.tensor([2, 0, 1]),
            3,
            3,
            1.0,
        ),
        "The last class need not occur among the labels: `classes` counts it.": (
            torch.eye(3, dtype=torch.float64),
            torch.tensor([2, 0, 1]),
            4,
            3,
            1.0,
        ),
    },
    mistakes={
        "Descent goes against the gradient, p - y: the loss rises here.": descended(
            lambda x, y, W, b, K: through(-error(x @ W.T + b, F.one_hot(y, K)), x)
        ),
        "The loss is a mean over the examples: divide by N.": descended(
            lambda x, y, W, b, K: through(len(y) * error(x @ W.T + b, F.one_hot(y, K)), x)
        ),
        "The bias learns too: its gradient is the sum of p - y, divided by N.": descended(
            lambda x, y, W, b, K: (error(x @ W.T + b, F.one_hot(y, K)).T @ x, 0 * b)
        ),
        "The logits need their bias: x W^T + b.": descended(
            lambda x, y, W, b, K: through(error(x @ W.T, F.one_hot(y, K)), x)
        ),
        "p is the softmax of the logits, not the logits themselves.": descended(
            lambda x, y, W, b, K: through((x @ W.T + b - F.one_hot(y, K)) / len(y), x)
        ),
        "`classes` says how many there are: y.max() + 1 may be fewer.": (
            lambda x, y, classes, steps, lr: classifier.solution(
                x, y, int(y.max()) + 1, steps, lr
            )
        ),
        "Take as many steps as asked for: this is one.": (
            lambda x, y, classes, steps, lr: classifier.solution(x, y, classes, 1, lr)
        ),
    },
    hint="Each step subtracts lr (p - y)^T x / N from W, and lr times the column means of "
    "p - y from b.",
)
def classifier(x, y, classes, steps, lr):
    """A linear classifier after so many steps of full-batch descent from zero."""
    W = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    b = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):  # no torch.optim: its import may take the time of a trial
        dW, db = torch.autograd.grad(F.cross_entropy(F.linear(x, W, b), y), [W, b])
        with torch.no_grad():
            W -= lr * dW
            b -= lr * db
    return W.detach(), b.detach()
