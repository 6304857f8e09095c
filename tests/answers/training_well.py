"""Answers to the exercises of the lesson on training well."""

import functools
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def chosen(rates, scores):
    best = max(scores)
    return min(r for r, s in zip(rates, scores, strict=True) if s == best)


def between(rates, rate):
    return min(rates) < rate < max(rates)


def choice(rate_of=chosen, inside=between):
    """An answer: rate_of(rates, scores), and inside(rates, that rate)."""

    def answer(rates, scores):
        rate = rate_of(rates, scores)
        return rate, inside(rates, rate)

    return answer


def first_best(rates, scores):
    return rates[scores.index(max(scores))]


def last_best(rates, scores):
    return rates[max(range(len(scores)), key=lambda k: (scores[k], k))]


def at_the_place_of_the_sorted(rates, scores):
    """Sorts the rates, and leaves the scores where they were."""
    return chosen(sorted(rates), scores)


def above_zero(rates, scores):
    """None if no run has a score above 0."""
    best, rate = 0, None
    for r, s in sorted(zip(rates, scores, strict=True)):
        if s > best:
            best, rate = s, r
    return rate


def edge_forgotten(rates, scores):
    rate = chosen(rates, scores)
    if between(rates, rate):
        return rate, True


def by_sorted_pairs(rates, scores):
    pairs = sorted(zip(scores, rates, strict=True), key=lambda p: (-p[0], p[1]))
    rate = pairs[0][1]
    return rate, any(r < rate for r in rates) and any(r > rate for r in rates)


def chosen_in_a_loop(rates, scores):
    rate = score = None
    for r, s in zip(rates, scores, strict=True):
        if score is None or s > score or (s == score and r < rate):
            rate, score = r, s
    smaller = larger = False
    for r in rates:
        smaller |= r < rate
        larger |= r > rate
    return [rate, smaller and larger]


def chosen_by_numpy(rates, scores):
    r, s = np.array(rates), np.array(scores)
    rate = r[s == s.max()].min()
    return rate, (r < rate).any() & (r > rate).any()


def chosen_by_torch(rates, scores):
    r = torch.tensor(rates, dtype=torch.float64)
    s = torch.tensor(scores, dtype=torch.float64)
    rate = r[s == s.max()].min()
    return rate, (r.min() < rate) & (rate < r.max())


def by_distinct_rates(rates, scores):
    rate = max(zip(scores, (-r for r in rates), strict=True))[1] * -1
    return rate, rate in sorted(set(rates))[1:-1]


def units(dead, linear, z_of=lambda x, W, b: x @ W.T + b):
    """An answer: dead(z) and linear(z) are masks of the units."""

    def answer(x, W, b):
        z = z_of(x, W, b)
        return int(dead(z).sum()), int(linear(z).sum())

    return answer


def is_dead(z):
    return (z <= 0).all(0)


def is_linear(z):
    return (z > 0).all(0)


def active(x, W, b):
    return units(is_dead, is_linear)(x, W, b)


def only_if_any(x, W, b):
    """Nothing where there are none."""
    dead, linear = active(x, W, b)
    if dead + linear:
        return dead, linear


def units_by_lists(x, W, b):
    dead = linear = 0
    for w, c in zip(W, b, strict=True):
        on = [(w @ row + c).item() > 0 for row in x]
        dead += not any(on)
        linear += all(on)
    return dead, linear


def units_by_numpy(x, W, b):
    on = np.einsum("nd,hd->nh", x.numpy(), W.numpy()) + b.numpy() > 0
    share = on.sum(axis=0)
    return np.sum(share == 0), np.sum(share == len(x))


def units_by_the_layer(x, W, b):
    a = F.linear(x, W, b).relu()
    return (a == 0).all(0).sum(), (a != 0).all(dim=0).count_nonzero()


def network(hidden=32, activation=nn.ReLU, outputs=4):
    parts = nn.Linear(2, hidden), activation(), nn.Linear(hidden, outputs)
    return nn.Sequential(*parts)


def fitted(model, x, y, steps=40, lr=0.1):
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def classifier(make=network, then=lambda model, mean, std: None, **settings):
    """An answer: then(model, mean, std) is the function for new points."""

    def answer(x, y):
        torch.manual_seed(0)
        mean, std = x.mean(0), x.std(0)
        model = fitted(make(), (x - mean) / std, y, **settings)
        return then(model, mean, std) or (lambda new: model((new - mean) / std))

    return answer


trained = classifier()


def unscaled(x, y):
    torch.manual_seed(0)
    return fitted(network(), x, y)


def only_divided(x, y):
    torch.manual_seed(0)
    model, std = fitted(network(), x / x.std(0), y), x.std(0)
    return lambda new: model(new / std)


def only_moved(x, y):
    torch.manual_seed(0)
    model, mean = fitted(network(), x - x.mean(0), y), x.mean(0)
    return lambda new: model(new - mean)


def own_statistics(model, mean, std):
    """Each batch of new points by its own mean: one point alone is nan."""
    return lambda new: model((new - new.mean(0)) / new.std(0))


def as_many_as_seen(x, y):
    """Fewer than four columns, where the last class has no example."""
    mean, std = x.mean(0), x.std(0)
    model = network(outputs=int(y.max()) + 1)
    fitted(model, (x - mean) / std, y)
    return lambda new: model((new - mean) / std)


def nearest_mean(x, y):
    """No ring has its mean inside."""
    means = torch.stack([x[y == k].mean(0) for k in range(4)]).nan_to_num(1e9)
    return lambda new: -torch.cdist(new, means)


def with_batch_norm(x, y):
    """Left in training mode: it needs two points, and takes their statistics."""
    torch.manual_seed(0)
    return fitted(nn.Sequential(nn.BatchNorm1d(2), network()), x, y)


def too_slow(x, y):
    time.sleep(11)
    return trained(x, y)


def trained_on_the_spot(x, y):
    return fitted(network(), x, y, steps=1)(x)


class Standardised(nn.Module):
    def __init__(self, x, body):
        super().__init__()
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("std", x.std(0))
        self.body = body

    def forward(self, x):
        return self.body((x - self.mean) / self.std)


def a_module(x, y):
    torch.manual_seed(1)
    return fitted(Standardised(x, network(64, nn.Tanh)), x, y, 60, 0.05)


def batch_norm_in_eval(x, y):
    torch.manual_seed(2)
    model = nn.Sequential(nn.BatchNorm1d(2, momentum=None), network())
    return fitted(model, x, y, 60).eval()


def by_lbfgs(x, y):
    torch.manual_seed(3)
    low, high = x.amin(0), x.amax(0)
    model, scaled = network(24, nn.Tanh), 4 * (x - low) / (high - low) - 2
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(scaled), y)
        decay = sum(p.square().sum() for p in model.parameters())
        loss = loss + 1e-4 * decay
        loss.backward()
        return loss

    optimizer.step(closure)
    return lambda new: model(4 * (new - low) / (high - low) - 2).detach()


def by_momentum(x, y):
    torch.manual_seed(4)
    mean, std = x.mean(0, keepdim=True), x.std(0, keepdim=True)
    model, x = network(48), (x - mean) / std
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return lambda new: model((new - mean) / std).tolist()


def by_hand(x, y):
    """NumPy, gradient descent with momentum."""
    rng = np.random.default_rng(0)
    a, labels = x.numpy().astype(float), y.numpy()
    mean, std = a.mean(0), a.std(0)
    a, target = (a - mean) / std, np.eye(4)[labels]
    sizes = [(2, 32), (32,), (32, 4), (4,)]
    parameters = [rng.normal(size=s) * (0.5 if len(s) > 1 else 0) for s in sizes]
    velocity = [np.zeros(s) for s in sizes]
    for _ in range(200):
        W1, b1, W2, b2 = parameters
        h = np.maximum(a @ W1 + b1, 0)
        z = h @ W2 + b2
        p = np.exp(z - z.max(1, keepdims=True))
        delta = (p / p.sum(1, keepdims=True) - target) / len(a)
        below = delta @ W2.T * (h > 0)
        grads = a.T @ below, below.sum(0), h.T @ delta, delta.sum(0)
        for k, g in enumerate(grads):
            velocity[k] = 0.9 * velocity[k] + g
            parameters[k] = parameters[k] - 0.2 * velocity[k]
    W1, b1, W2, b2 = parameters

    def logits(new):
        return np.maximum((np.asarray(new) - mean) / std @ W1 + b1, 0) @ W2 + b2

    return logits


class Trainer:
    def __call__(self, x, y):
        torch.manual_seed(5)
        mean, std = x.double().mean(0), x.double().std(0)
        model = fitted(network().double(), (x.double() - mean) / std, y, 50, 0.05)
        return lambda new: model((new.double() - mean) / std).float()


WRONG = {
    "choose": [
        choice(first_best),
        choice(last_best),
        choice(at_the_place_of_the_sorted),
        choice(above_zero),
        choice(lambda rates, scores: max(zip(scores, rates, strict=True))[1]),
        choice(lambda rates, scores: chosen(rates, [-s for s in scores])),
        choice(lambda rates, scores: chosen(rates, [round(s, 2) for s in scores])),
        choice(lambda rates, scores: min(rates)),
        choice(lambda rates, scores: max(rates)),
        choice(inside=lambda rates, rate: min(rates) <= rate <= max(rates)),
        choice(inside=lambda rates, rate: rate < max(rates)),
        choice(inside=lambda rates, rate: rate > min(rates)),
        choice(inside=lambda rates, rate: rates[0] < rate < rates[-1]),
        choice(inside=lambda rates, rate: rate not in (rates[0], rates[-1])),
        choice(inside=lambda rates, rate: rate in (min(rates), max(rates))),
        choice(inside=lambda rates, rate: rate in rates),
        choice(inside=lambda rates, rate: len(rates) > 2),
        # right, as long as no rate is tried twice
        choice(inside=lambda rates, rate: rate in sorted(rates)[1:-1]),
        choice(inside=lambda rates, rate: "yes" if between(rates, rate) else "no"),
        lambda rates, scores: chosen(rates, scores),
        lambda rates, scores: choice()(rates, scores)[::-1],
        lambda rates, scores: (max(scores), between(rates, chosen(rates, scores))),
        lambda rates, scores: (
            rates.index(chosen(rates, scores)),
            between(rates, chosen(rates, scores)),
        ),
        edge_forgotten,
    ],
    "activity": [
        units(lambda z: (z < 0).all(0), is_linear),  # 0 is dead too
        units(is_dead, lambda z: (z >= 0).all(0)),
        units(lambda z: (z <= 0).all(1), lambda z: (z > 0).all(1)),
        units(lambda z: (z <= 0).any(0), lambda z: (z > 0).any(0)),
        units(lambda z: z <= 0, lambda z: z > 0),
        units(is_dead, lambda z: ~is_dead(z)),
        units(lambda z: ~is_linear(z), is_linear),
        units(is_linear, is_dead),
        units(lambda z: z.mean(0) <= 0, lambda z: z.mean(0) > 0),
        units(lambda z: z.sum(0) == 0, is_linear),
        units(lambda z: z[0] <= 0, lambda z: z[0] > 0),
        units(lambda z: (z <= 1e-3).all(0), lambda z: (z > 1e-3).all(0)),
        units(is_dead, is_linear, lambda x, W, b: x @ W.T),
        units(is_dead, is_linear, lambda x, W, b: x @ W.T - b),
        units(is_dead, is_linear, lambda x, W, b: x @ W + b),
        units(is_dead, is_linear, lambda x, W, b: (x @ W.T).relu() + b),
        units(is_dead, is_linear, lambda x, W, b: x.abs() @ W.T + b),
        lambda x, W, b: active(x, W, b)[0],
        lambda x, W, b: active(x, W, b)[::-1],
        lambda x, W, b: tuple(k / len(W) for k in active(x, W, b)),
        lambda x, W, b: (is_dead(x @ W.T + b), is_linear(x @ W.T + b)),
        lambda x, W, b: (*active(x, W, b), len(W)),
        lambda x, W, b: active(x[:10], W, b),
        lambda x, W, b: tuple(map(bool, active(x, W, b))),
        only_if_any,
    ],
    "train_classifier": [
        unscaled,
        only_divided,
        only_moved,
        classifier(then=own_statistics),
        classifier(then=lambda model, mean, std: model),  # new points as they are
        classifier(then=lambda model, mean, std: lambda new: model(new - mean)),
        classifier(
            then=lambda model, mean, std: (
                lambda new: model((new - mean) / std).argmax(1)  # classes
            )
        ),
        classifier(then=lambda model, mean, std: lambda new: -model((new - mean) / std)),
        classifier(then=lambda model, mean, std: lambda new: model((new - mean) / std).T),
        classifier(
            then=lambda model, mean, std: lambda new: model((new - mean) / std)[:, :3]
        ),
        classifier(
            then=lambda model, mean, std: lambda new: model((new - mean) / std).flip(1)
        ),
        classifier(
            then=lambda model, mean, std: lambda new: model((new - mean) / std) * math.nan
        ),
        classifier(
            then=lambda model, mean, std: (
                lambda new: [model((new - mean) / std)].clear()  # returns nothing
            )
        ),
        classifier(lambda: nn.Linear(2, 4)),  # no ring
        classifier(lambda: nn.Sequential(nn.Linear(2, 32), nn.Linear(32, 4))),
        classifier(lambda: network(1)),
        classifier(lambda: network(outputs=3)),
        classifier(lambda: network(outputs=2)),
        classifier(steps=0),
        classifier(steps=1, lr=1e-4),
        classifier(lr=1e-5),
        lambda x, y: network(),
        lambda x, y: lambda new: torch.zeros(len(new), 4),
        lambda x, y: lambda new: F.one_hot(y.mode().values.expand(len(new)), 4),
        as_many_as_seen,
        nearest_mean,
        with_batch_norm,
        trained_on_the_spot,
        too_slow,  # the one that hangs
    ],
}

RIGHT = {
    "choose": [
        by_sorted_pairs,
        chosen_in_a_loop,
        chosen_by_numpy,
        chosen_by_torch,
        by_distinct_rates,
        choice(),
        functools.partial(choice(inside=lambda r, rate: rate not in (min(r), max(r)))),
        choice(
            lambda rates, scores: first_best(
                *zip(*sorted(zip(rates, scores, strict=True)), strict=True)
            )
        ),
    ],
    "activity": [
        units_by_lists,
        units_by_numpy,
        units_by_the_layer,
        units(lambda z: z.amax(0) <= 0, lambda z: z.amin(0) > 0),
        units(lambda z: z.relu().sum(0) == 0, lambda z: (z > 0).float().mean(0) == 1),
        units(is_dead, is_linear, lambda x, W, b: (W @ x.T + b[:, None]).T),
        units(is_dead, is_linear, lambda x, W, b: torch.addmm(b, x, W.t())),
        units(lambda z: ~(z > 0).any(0), lambda z: (z > 0).prod(0)),
    ],
    "train_classifier": [
        trained,
        a_module,
        batch_norm_in_eval,
        by_lbfgs,
        by_momentum,
        by_hand,
        Trainer(),
        classifier(
            then=lambda model, mean, std: (
                lambda new: model((new - mean) / std).log_softmax(1).detach().numpy()
            )
        ),
    ],
}
