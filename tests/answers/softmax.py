"""Answers to the exercises of the lesson on softmax."""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F


def shifted(z, dim=-1):
    return z - z.amax(dim, keepdim=True)


def normalised(e, dim=-1):
    return e / e.sum(dim, keepdim=True)


def row_by_row(logits, T):
    if logits.ndim > 1:
        return torch.stack([row_by_row(row, T) for row in logits])
    largest = max(logits.tolist())
    e = [math.exp((z - largest) / T) for z in logits.tolist()]
    return torch.tensor([v / sum(e) for v in e])


def in_numpy(logits, T):
    z = np.asarray(logits) / T
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def in_place_on_a_copy(logits, T):
    z = logits.clone()
    z /= T
    z -= z.max(-1, keepdim=True).values
    z.exp_()
    z /= z.sum(-1, keepdim=True)
    return z


def only_cold(logits, T):
    """Nothing is returned for T > 1."""
    if T <= 1:
        return normalised(torch.exp(shifted(logits / T)))


class Tempered:
    def __call__(self, logits, T):
        e = shifted(logits / T).exp()
        return torch.einsum("...k,...->...k", e, 1 / e.sum(-1))


def centred(z):
    return z - z.mean(1, keepdim=True)


def by_lists(p):
    rows = []
    for row in p.tolist():
        logs = [math.log(v) for v in row]
        rows.append([v - sum(logs) / len(logs) for v in logs])
    return rows


def centred_by_a_matrix(p):
    K = p.shape[1]
    return p.log() @ (torch.eye(K, dtype=p.dtype) - 1 / K)


def logs_in_place(p):
    z = p.clone().log_()
    z -= z.sum(1, keepdim=True) / z.shape[1]
    return z


def sigmoid_of_one(u):
    """math.log1p, for a list."""
    return [min(v, 0.0) - math.log1p(math.exp(-abs(v))) for v in u.tolist()]


def branch_of_the_first(u):
    if u[0] >= 0:
        return -torch.log1p(torch.exp(-u))
    return u - torch.log1p(torch.exp(u))


def one_shift_for_all(u):
    m = (-u).max().clamp(min=0)
    return -(m + torch.log(torch.exp(-m) + torch.exp(-u - m)))


def wrong_shift(u):
    m = u.clamp(min=0)
    return -(m + torch.log(torch.exp(-m) + torch.exp(-u - m)))


def shift_not_added(u):
    m = (-u).clamp(min=0)
    return -torch.log(torch.exp(-m) + torch.exp(-u - m))


def one_not_shifted(u):
    m = (-u).clamp(min=0)
    return -(m + torch.log(1 + torch.exp(-u - m)))


def with_zero(u):
    """The two logits 0 and -u, (N, 2)."""
    return torch.stack([torch.zeros_like(u), -u], 1)


def both(z):
    """Classes and logarithms, of logits."""
    s = shifted(z, 1)
    return z.argmax(1), s - s.exp().sum(1, keepdim=True).log()


def changed(change):
    """The right answer, with one of its values changed."""
    return lambda x, W, b: change(*both(x @ W.T + b))


def classes_without_b(x, W, b):
    return (x @ W.T).argmax(1), both(x @ W.T + b)[1]


def b_at_the_end(x, W, b):
    classes, log_p = both(x @ W.T)
    return classes, log_p + b


def naive(x, W, b):
    z = x @ W.T + b
    return z.argmax(1), normalised(z.exp(), 1).log()


def log_of_zero(x, W, b):
    z = x @ W.T + b
    return z.argmax(1), normalised(shifted(z, 1).exp(), 1).log()


def saved_by_epsilon(x, W, b):
    z = x @ W.T + b
    return z.argmax(1), (normalised(shifted(z, 1).exp(), 1) + 1e-12).log()


def naive_sum(x, W, b):
    z = x @ W.T + b
    return z.argmax(1), z - z.exp().sum(1, keepdim=True).log()


def one_largest(x, W, b):
    """A row far below the largest of all is lost."""
    z = x @ W.T + b
    s = z - z.max()
    return z.argmax(1), s - s.exp().sum(1, keepdim=True).log()


def one_sum(x, W, b):
    z = x @ W.T + b
    s = shifted(z, 1)
    return z.argmax(1), s - s.exp().sum().log()


def down_the_batch(x, W, b):
    z = x @ W.T + b
    s = shifted(z, 0)
    return z.argmax(1), s - s.exp().sum(0).log()


def clamped(x, W, b):
    z = (x @ W.T + b).clamp(-80, 80)
    return both(z)


def first_image(x, W, b):
    classes, log_p = both(x[:1] @ W.T + b)
    return classes, log_p


def classify_in_numpy(x, W, b):
    z = np.asarray(x) @ np.asarray(W).T + np.asarray(b)
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return torch.tensor(z.argmax(1)), torch.tensor(log_p)


def image_by_image(x, W, b):
    classes, rows = [], []
    for image in x:
        z = W @ image + b
        m = z.max()
        rows.append(z - m - (z - m).exp().sum().log())
        classes.append(int(z.argmax()))
    return torch.tensor(classes), torch.stack(rows)


def by_sorting(x, W, b):
    z = torch.addmm(b, x, W.T)
    order = z.argsort(1, descending=True)
    s = z - z.gather(1, order[:, :1])
    return order[:, 0], s - s.exp().sum(1).log().unsqueeze(1)


def by_pairs(x, W, b):
    """log p_i = -log sum_k exp(z_k - z_i), term by term with logaddexp."""
    z = torch.einsum("bd,kd->bk", x, W) + b
    total = functools.reduce(torch.logaddexp, z.unbind(1))
    return [z.max(1)[1], z - total[:, None]]


WRONG = {
    "softmax_at": [
        lambda logits, T: normalised(torch.exp(shifted(logits))),
        lambda logits, T: normalised(torch.exp(shifted(logits * T))),
        lambda logits, T: normalised(torch.exp(logits / T)),
        lambda logits, T: normalised(torch.exp(logits / T - logits.amax(-1, True))),
        lambda logits, T: normalised(torch.exp(logits / T - (logits / T).max())),
        lambda logits, T: normalised(torch.exp((logits / T).clamp(max=80))),
        lambda logits, T: normalised(torch.exp(shifted(logits // T))),
        lambda logits, T: normalised(torch.exp(shifted(logits / T, 0)), 0),
        lambda logits, T: normalised(torch.exp(shifted(logits / T, 1)), 1),
        lambda logits, T: torch.exp(shifted(logits / T)),
        lambda logits, T: torch.exp(shifted(logits / T)) / T,
        lambda logits, T: normalised(torch.exp(shifted(logits))) / T,
        lambda logits, T: normalised(torch.exp(shifted(logits))) ** (1 / T),
        lambda logits, T: normalised(2 ** shifted(logits / T)),
        lambda logits, T: normalised(torch.exp(-shifted(logits / T))),
        lambda logits, T: normalised(shifted(logits / T)),
        lambda logits, T: normalised(torch.exp(shifted(logits / T))).log(),
        lambda logits, T: normalised(torch.exp(shifted(logits / T))).flatten(),
        lambda logits, T: normalised(torch.exp(logits / T - (logits / T).mean(-1, True))),
        lambda logits, T: shifted(logits / T).exp() / shifted(logits / T).exp().sum(),
        lambda logits, T: shifted(logits / T).exp() / shifted(logits).exp().sum(-1, True),
        lambda logits, T: torch.softmax(logits / T, -1),  # ready-made: forbidden
        lambda logits, T: F.log_softmax(logits / T, -1).exp(),
        lambda logits, T: torch.nn.Softmax(-1)(logits / T),
        only_cold,
    ],
    "logits_of": [
        lambda p: p.log(),
        lambda p: p - p.mean(1, keepdim=True),
        lambda p: p.log() - p.log().sum(1, keepdim=True),
        lambda p: p.log() - p.mean(1, keepdim=True).log(),
        lambda p: p.log() - p.log().mean(),
        lambda p: p.log() - p.log().mean(0),
        lambda p: p.log() - p.log().mean(1),  # raises, or subtracts down the columns
        lambda p: p.log() - p.log().amax(1, keepdim=True),
        lambda p: p.log() - p.log()[:, :1],
        lambda p: p.log() - p.log().median(1, keepdim=True).values,
        lambda p: centred(p.log2()),
        lambda p: centred(p.log10()),
        lambda p: centred(-p.log()),
        lambda p: centred(p.log1p()),
        lambda p: centred((p + 1e-6).log()),
        lambda p: centred(p.clamp(min=1e-4).log()),
        lambda p: centred(torch.logit(p)),
        lambda p: centred(p.exp()),
        lambda p: centred(p.log())[0],
        lambda p: centred(p.log()) / p.log().std(1, keepdim=True),
        lambda p: (p / p.prod(1, keepdim=True) ** (1 / p.shape[1])).log(),  # underflow
        lambda p: F.log_softmax(p, 1),
    ],
    "log_sigmoid": [
        lambda u: -torch.log(1 + torch.exp(-u)),
        lambda u: -torch.log1p(torch.exp(-u)),
        lambda u: torch.log(1 / (1 + torch.exp(-u))),
        lambda u: u - torch.log(1 + torch.exp(u)),
        lambda u: 1 / (1 + torch.exp(-u)),
        lambda u: -torch.log1p(torch.exp(-u.clamp(-80, 80))),
        lambda u: -torch.log1p(torch.exp(-u.clamp(min=-700))),
        lambda u: torch.log(1 / (1 + torch.exp(-u)) + 1e-12),
        lambda u: -torch.log1p(torch.exp(-u.abs())),
        lambda u: u.clamp(max=0),
        lambda u: u.clamp(max=0) + torch.log1p(torch.exp(-u.abs())),
        lambda u: u.clamp(min=0) - torch.log1p(torch.exp(-u.abs())),
        lambda u: u.clamp(max=0) - torch.log1p(torch.exp(u.abs())),
        lambda u: -u.clamp(min=0) - torch.log1p(torch.exp(-u.abs())),
        lambda u: (u.clamp(max=0) - torch.log1p(torch.exp(-u.abs()))) / math.log(2),
        lambda u: (u.clamp(max=0) - torch.log1p(torch.exp(-u.abs()))).sum(),
        lambda u: (u.clamp(max=0) - torch.log1p(torch.exp(-u.abs())))[:, None],
        lambda u: torch.sigmoid(u).log(),  # underflows, and is ready-made
        lambda u: F.logsigmoid(u),  # ready-made: forbidden
        branch_of_the_first,
        one_shift_for_all,
        wrong_shift,
        shift_not_added,
        one_not_shifted,
    ],
    "classify": [
        changed(lambda classes, log_p: (log_p, classes)),
        changed(lambda classes, log_p: (classes, log_p.exp())),
        changed(lambda classes, log_p: (classes, -log_p)),
        changed(lambda classes, log_p: (classes, log_p / math.log(2))),
        changed(lambda classes, log_p: (log_p.argmax(0), log_p)),
        changed(lambda classes, log_p: (log_p.argmin(1), log_p)),
        changed(lambda classes, log_p: (log_p.amax(1), log_p)),
        changed(lambda classes, log_p: (classes + 1, log_p)),
        changed(lambda classes, log_p: (classes[:, None], log_p)),
        changed(lambda classes, log_p: (F.one_hot(classes, log_p.shape[1]), log_p)),
        changed(lambda classes, log_p: (classes, log_p.amax(1))),
        changed(lambda classes, log_p: log_p),
        lambda x, W, b: both(x @ W.T),
        lambda x, W, b: both(x @ W + b),
        lambda x, W, b: both(x @ W.T - b),
        lambda x, W, b: (
            (x @ W.T + b).argmax(1),
            torch.log_softmax(x @ W.T + b, 1),  # forbidden
        ),
        lambda x, W, b: (
            (x @ W.T + b).argmax(1),
            x @ W.T + b - torch.logsumexp(x @ W.T + b, 1, keepdim=True),  # forbidden
        ),
        classes_without_b,
        b_at_the_end,
        naive,
        log_of_zero,
        saved_by_epsilon,
        naive_sum,
        one_largest,
        one_sum,
        down_the_batch,
        clamped,
        first_image,
    ],
}

RIGHT = {
    "softmax_at": [
        lambda logits, T: normalised(torch.exp(shifted(logits) / T)),
        lambda logits, T: F.normalize(torch.exp(shifted(logits / T)), p=1, dim=-1),
        lambda logits, T: (
            torch.exp(shifted(logits * (1 / T)))
            / torch.exp(shifted(logits * (1 / T))).sum(dim=-1).unsqueeze(-1)
        ),
        lambda logits, T: (
            math.e ** (shifted(logits / T))
            / (math.e ** shifted(logits / T)).sum(-1, keepdim=True)
        ),
        lambda logits, T: normalised(shifted(logits.double() / T).exp()),
        lambda logits, T: normalised(shifted(logits / T).exp()).numpy(force=True),
        row_by_row,
        in_numpy,
        in_place_on_a_copy,
        Tempered(),
    ],
    "logits_of": [
        lambda p: p.log() - p.log().sum(1, keepdim=True) / p.shape[1],
        lambda p: p.log().sub(p.log().mean(dim=-1).unsqueeze(1)),
        lambda p: (p.log().T - p.log().mean(1)).T,
        lambda p: torch.stack([row.log() - row.log().mean() for row in p]),
        lambda p: centred(p.log2()) * math.log(2),
        lambda p: np.log(p.numpy()) - np.log(p.numpy()).mean(1, keepdims=True),
        lambda p: centred(torch.log_softmax(p.log(), 1)),
        lambda p: (p / p.log().mean(1, keepdim=True).exp()).log(),
        lambda p: centred((7 * p).log()),
        by_lists,
        centred_by_a_matrix,
        logs_in_place,
    ],
    "log_sigmoid": [
        lambda u: u.clamp(max=0) - torch.log1p(torch.exp(-u.abs())),
        lambda u: torch.minimum(u, torch.zeros_like(u)) - (1 + (-u.abs()).exp()).log(),
        lambda u: -torch.logsumexp(with_zero(u), 1),
        lambda u: torch.log_softmax(with_zero(u), 1)[:, 0],
        lambda u: -torch.logaddexp(torch.zeros_like(u), -u),
        lambda u: -F.softplus(-u),
        lambda u: -np.logaddexp(0, -u.numpy()),
        lambda u: torch.where(u > 0, -torch.log1p((-u).exp()), u - torch.log1p(u.exp())),
        lambda u: -F.relu(-u) - torch.log1p(torch.exp(-torch.abs(u))),
        sigmoid_of_one,
    ],
    "classify": [
        lambda x, W, b: both(F.linear(x, W, b)),
        lambda x, W, b: both((W @ x.T).T + b),
        lambda x, W, b: both(x.double() @ W.double().T + b.double()),
        changed(lambda classes, log_p: (log_p.max(dim=1).indices, log_p)),
        changed(lambda classes, log_p: [classes.int(), log_p]),
        classify_in_numpy,
        image_by_image,
        by_sorting,
        by_pairs,
    ],
}
