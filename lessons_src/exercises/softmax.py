"""Exercises of the lesson on softmax: temperature, logits, log-sum-exp."""

import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import LOGSUMEXP, SIGMOID, SOFTMAX, without


def shifted_softmax(z, shift):
    """The formula, with what is subtracted from the logits."""
    e = torch.exp(z - shift)
    return e / e.sum(-1, keepdim=True)


@exercise(
    inputs=lambda draw: (
        draw.normal(
            *draw.choice((2 + draw.size,), (draw.size, 3 + draw.size), (2, draw.size, 4))
        ),
        draw.choice(1, draw.uniform(0.3, 4), draw.uniform(0.01, 0.1)),
    ),
    observe=without(*SOFTMAX),
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


@exercise(
    inputs=lambda draw: (
        torch.softmax(draw.normal(1 + draw.size, 2 + draw.size, scale=3), 1),
    ),
    cases={
        "A probability can be very small: stay with its logarithm.": (
            torch.tensor([[1.0, 1e-30, 1e-35]]),
        )
    },
    mistakes={
        "Their softmax is p, but each row must add up to 0: subtract its mean.": torch.log,
        "The mean of each row, not of the batch.": lambda p: p.log() - p.log().mean(0),
        "One mean for all is no row's own: each row has its mean.": (
            lambda p: p.log() - p.log().mean()
        ),
        "Subtract the mean of the logits, not that of the probabilities.": (
            lambda p: p.log() - p.mean(1, keepdim=True)
        ),
        "log(p / (1 - p)) undoes the sigmoid, not softmax.": lambda p: (
            p / (1 - p)
        ).log(),
    },
    hint="It is log p minus the mean of each row's log p.",
)
def logits_of(p):
    """The logits whose softmax is p and whose rows add up to 0."""
    return p.log() - p.log().mean(1, keepdim=True)


@exercise(
    inputs=lambda draw: (draw.normal(2 + draw.size, scale=4),),
    observe=without(*SIGMOID),
    cases={
        "exp(1000) overflows: take the larger of 0 and -u out of the logarithm.": (
            torch.tensor([-1000.0, -200.0]),
        ),
        "At u = 1000 the result is 0: take out the larger of 0 and -u, not always -u.": (
            torch.tensor([1000.0, 200.0]),
        ),
        "Each u has a larger one of its own: the first does not speak for all.": (
            torch.tensor([1000.0, -1000.0, 0.5]),
        ),
    },
    mistakes={
        "The exponent is -u: log p grows with u.": lambda u: F.logsigmoid(-u),
        "Where is the logarithm? This is p.": torch.sigmoid,
        "A logarithm of a probability is negative: check the sign.": F.softplus,
        "Typed as it stands, it overflows: take out the larger of 0 and -u.": (
            lambda u: -torch.log(1 + torch.exp(-u))
        ),
        "The larger of 0 and -u is taken out, not always -u.": (
            lambda u: u - torch.log(1 + torch.exp(u))
        ),
    },
    hint="It is -(m + log(exp(-m) + exp(-u - m))), with m the larger of 0 and -u.",
)
def log_sigmoid(u):
    """The logarithm of 1 / (1 + exp(-u)), for every u."""
    return F.logsigmoid(u)


def classified(log_p):
    """A wrong classify, from its log_p(z): z are the right logits."""
    return lambda x, W, b: ((x @ W.T + b).argmax(1), log_p(x @ W.T + b))


@exercise(
    inputs=lambda draw: (
        draw.normal(1 + draw.size, 2 + draw.size),
        draw.normal(3 + draw.size, 2 + draw.size, scale=draw.choice(1, 1000)),
        draw.normal(3 + draw.size),
    ),
    observe=without(*SOFTMAX, *LOGSUMEXP),
    cases={
        "Pixels up to 255 make scores in the thousands: subtract each row's maximum.": (
            255 * torch.eye(4),
            torch.tensor([[9.0, -7.0, 2.0, 0.0], [-8.0, 6.0, 0.0, 1.0]]),
            torch.zeros(2),
        )
    },
    mistakes={
        "The bias belongs to every score: x W^T + b.": lambda x, W, b: (
            (x @ W.T).argmax(1),
            torch.log_softmax(x @ W.T, 1),
        ),
        "The logarithms are asked for, not the probabilities.": classified(
            lambda z: torch.softmax(z, 1)
        ),
        "exp overflows at 89, and log 0 is -inf: subtract each row's maximum, and "
        "never divide.": classified(lambda z: (z.exp() / z.exp().sum(1, True)).log()),
        "After the shift, take the logarithm of the sum, not of a quotient: a small "
        "probability becomes 0.": classified(lambda z: torch.softmax(z, 1).log()),
        "The sum runs over the classes of each image, not over the batch.": classified(
            lambda z: torch.log_softmax(z, 0)
        ),
        "One maximum for all rows: the sum of a low row becomes 0. Each has its own.": (
            classified(
                lambda z: z - z.max() - (z - z.max()).exp().sum(1, keepdim=True).log()
            )
        ),
    },
    hint="With z = x W^T + b, shift each row by its maximum, then subtract the logarithm "
    "of the sum of exponentials.",
)
def classify(x, W, b):
    """Predicted classes and log-probabilities of a linear classifier."""
    logits = F.linear(x, W, b)
    return logits.argmax(1), torch.log_softmax(logits, 1)
