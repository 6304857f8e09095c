"""Answers to the exercises of the lesson on generalisation."""

import copy
import functools
import itertools
import math
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from scipy import optimize, special, stats
from torch import nn


def judged(fine, under, words=("fine", "underfitting", "overfitting")):
    """An answer: fine(t, v, g), then under(t, v, g), of training, validation, goal."""

    def answer(training, validation, goal):
        if fine(training, validation, goal):
            return words[0]
        return words[1] if under(training, validation, goal) else words[2]

    return answer


def reached(t, v, g):
    return v >= g


def missed(t, v, g):
    return t < g


def training_first(training, validation, goal):
    """Underfitting, although new images are fine."""
    if training < goal:
        return "underfitting"
    return "fine" if validation >= goal else "overfitting"


def last_forgotten(training, validation, goal):
    if validation >= goal:
        return "fine"
    if training < goal:
        return "underfitting"


def by_conditionals(training, validation, goal):
    word = "underfitting" if training < goal else "overfitting"
    return "fine" if validation >= goal else word


def nested(training, validation, goal):
    if validation < goal:
        if training >= goal:
            return "overfitting"
        else:
            return "underfitting"
    else:
        return "fine"


def matched(training, validation, goal):
    match validation >= goal, training >= goal:
        case (True, _):
            return "fine"
        case (_, True):
            return "overfitting"
        case _:
            return "underfitting"


class Diagnosis:
    words = ("overfitting", "underfitting")

    def __call__(self, training, validation, goal):
        return "fine" if goal <= validation else self.words[goal > training]


def stopped(
    better=lambda loss, best: loss < best,
    over=lambda bad, patience: bad >= patience,
    bad_after=lambda bad, improved: 0 if improved else bad + 1,
    result=lambda best_epoch, epoch, losses: (best_epoch, epoch),
    start=lambda losses: math.inf,
):
    """An answer of parts that the wrong ones change."""

    def answer(losses, patience):
        best, best_epoch, bad = start(losses), 0, 0
        for epoch, loss in enumerate(losses, 1):
            improved = better(loss, best)
            bad = bad_after(bad, improved)
            if improved:
                best, best_epoch = loss, epoch
            if over(bad, patience):
                break
        return result(best_epoch, epoch, losses)

    return answer


def first_is_best(losses, patience):
    """Epoch 1 counts as the best before its loss is seen, which may be NaN."""
    best, best_epoch = math.inf, 1
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, best_epoch = loss, epoch
        elif epoch - best_epoch >= patience:
            break
    return best_epoch, epoch


def nan_skipped(losses, patience):
    """An epoch without a number is none of the bad ones."""
    best, best_epoch, bad = math.inf, 0, 0
    for epoch, loss in enumerate(losses, 1):
        if math.isnan(loss):
            continue
        bad = 0 if loss < best else bad + 1
        if loss < best:
            best, best_epoch = loss, epoch
        if bad >= patience:
            break
    return best_epoch, epoch


def nan_stops(losses, patience):
    until = next((k for k, v in enumerate(losses) if math.isnan(v)), len(losses))
    best, last = stopped()(losses[: max(until, 1)], patience)
    return best, min(until + 1, len(losses)) if last == until else last


def than_the_one_before(losses, patience):
    best_epoch, bad, before = 0, 0, math.inf
    for epoch, loss in enumerate(losses, 1):
        bad = 0 if loss < before else bad + 1
        if loss < before:
            best_epoch = epoch
        before = loss
        if bad >= patience:
            break
    return best_epoch, epoch


def of_all_losses(losses, patience):
    """Knows of losses that never came."""
    _, last = stopped()(losses, patience)
    numbers = [math.inf if math.isnan(v) else v for v in losses]
    return numbers.index(min(numbers)) + 1, last


def only_if_it_stops(losses, patience):
    best, best_epoch = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, best_epoch = loss, epoch
        elif epoch - best_epoch >= patience:
            return best_epoch, epoch


def by_min(losses, patience):
    """min() of a list with nan depends on the order."""
    for epoch in range(1, len(losses) + 1):
        best_epoch = losses.index(min(losses[:epoch])) + 1
        if epoch - best_epoch >= patience:
            break
    return best_epoch, epoch


def with_while(losses, patience):
    numbers = [math.inf if math.isnan(v) else v for v in losses]
    epoch, best, best_epoch = 0, math.inf, 0
    while epoch < len(numbers) and epoch - best_epoch < patience:
        epoch += 1
        if numbers[epoch - 1] < best:
            best, best_epoch = numbers[epoch - 1], epoch
    return [best_epoch, epoch]


def stopped_by_numpy(losses, patience):
    v = np.nan_to_num(np.array(losses, float), nan=np.inf)
    before = np.minimum.accumulate(np.r_[np.inf, v])[:-1]
    improved = np.r_[0, np.flatnonzero(v < before) + 1]  # 0: before the first epoch
    gaps = np.diff(np.r_[improved, np.inf])
    k = np.flatnonzero(gaps > patience)[0]
    return improved[k], min(improved[k] + patience, len(v))


def stopped_by_slices(losses, patience):
    numbers = [math.inf] + [v if v == v else math.inf for v in losses]
    for last in range(1, len(numbers)):
        best = numbers.index(min(numbers[: last + 1]))
        if last == best + patience:
            break
    return best, last


def stopped_by_torch(losses, patience):
    v = torch.tensor([math.inf, *losses], dtype=torch.float64).nan_to_num(nan=math.inf)
    for last in range(1, len(v)):
        best = int((v[: last + 1] == v[: last + 1].min()).nonzero()[0])
        if last - best == patience:
            break
    return torch.tensor(best), last


def stopped_by_accumulate(losses, patience):
    def following(state, numbered):
        best, best_epoch, _ = state
        epoch, loss = numbered
        return (loss, epoch, epoch) if loss < best else (best, best_epoch, epoch)

    states = itertools.accumulate(
        enumerate(losses, 1), following, initial=(math.inf, 0, 0)
    )
    for _, best_epoch, epoch in states:
        if epoch - best_epoch >= patience:
            break
    return best_epoch, epoch


def most(p, N, R):
    """The expected share of the best run."""
    F_of = stats.binom.cdf(np.arange(N), N, p)
    return (1 - F_of**R).sum() / N


def halved(share=most, times=40, low=0.0, high=1.0, upwards=True):
    """An answer: share(p, N, R) is what grows with p."""

    def answer(reported, N, R):
        a, b = low, high
        for _ in range(times):
            p = (a + b) / 2
            if (share(p, N, R) < reported) == upwards:
                a = p
            else:
                b = p
        return p

    return answer


true_p = halved()


def least(p, N, R):
    return ((1 - stats.binom.cdf(np.arange(N), N, p)) ** R).sum() / N


def typical_noise(reported, N, R):
    return reported - math.sqrt(reported * (1 - reported) / N)


def by_a_normal(reported, N, R):
    """Near, but not to six places."""
    z = NormalDist().inv_cdf((R - 0.375) / (R + 0.25))
    return reported - z * math.sqrt(reported * (1 - reported) / N)


def median_of_the_best(p, N, R):
    return stats.binom.ppf(0.5 ** (1 / R), N, p) / N


def on_a_grid(reported, N, R):
    grid = np.linspace(0, 1, 201)
    return grid[np.argmin([abs(most(p, N, R) - reported) for p in grid])]


def by_trying(reported, N, R):
    rng = np.random.default_rng(0)

    def share(p, N, R):
        return rng.binomial(N, p, (200, R)).max(axis=1).mean() / N

    return halved(share, 20)(reported, N, R)


def by_brentq(reported, N, R):
    return optimize.brentq(lambda p: most(p, N, R) - reported, 0, 1, xtol=1e-12)


def by_differences(p, N, R):
    F_of = stats.binom.cdf(np.arange(N + 1), N, p) ** R
    return np.diff(F_of, prepend=0) @ np.arange(N + 1) / N


def by_betainc(p, N, R):
    c = np.arange(N)
    return np.sum(1 - special.betainc(N - c, c + 1, 1 - p) ** R) / N


def by_survival(p, N, R):
    return float(np.mean(1 - (1 - stats.binom.sf(range(N), N, p)) ** R))


def by_the_masses(p, N, R):
    total = np.cumsum(stats.binom.pmf(np.arange(N), N, p)).clip(0, 1)
    return sum(1 - f**R for f in total.tolist()) / N


def by_recursion(reported, N, R, low=0.0, high=1.0):
    p = (low + high) / 2
    if high - low < 1e-9:
        return p
    if most(p, N, R) < reported:
        return by_recursion(reported, N, R, p, high)
    return by_recursion(reported, N, R, low, p)


def mlp(hidden=100, outputs=3):
    return nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def trained(model, x, y, epochs, x_held=None, y_held=None, lr=0.005, decay=0.0):
    """The model, with the weights of the lowest loss on what is held out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=decay)
    lowest, kept = math.inf, None
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
        model.eval()
        if x_held is not None:
            with torch.no_grad():
                loss = F.cross_entropy(model(x_held), y_held).item()
            if loss < lowest:
                lowest, kept = loss, copy.deepcopy(model.state_dict())
    if kept is not None:
        model.load_state_dict(kept)
    return model


def right(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


def learned(change=lambda model, promise: (model, promise), make=mlp, **settings):
    """An answer: change(model, promise) of a right one."""

    def answer(x, y):
        settings.setdefault("epochs", 15)
        held = x[:200], y[:200]
        model = trained(
            make(), x[200:], y[200:], x_held=held[0], y_held=held[1], **settings
        )
        return change(model, right(model, *held))

    return answer


def by_heart(x, y):
    """The promise is what it says of objects that it knows."""
    model = trained(mlp(500), x, y, 60, lr=0.01)
    return model, right(model, x, y)


def by_heart_but_honest(x, y):
    """Learns the wrong labels: fewer than 62 are right."""
    model = trained(mlp(1000), x[200:], y[200:], 120, lr=0.01)
    return model, right(model, x[:200], y[:200])


class Nearest(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def forward(self, new):
        return F.one_hot(self.y[torch.cdist(new, self.x).argmin(1)], 3).float()


def nearest(x, y):
    """Learns by heart by itself."""
    model = Nearest(x[200:], y[200:])
    return model, right(model, x[:200], y[:200])


def shuffled_labels(x, y):
    return learned()(x, y[torch.randperm(len(y))])


class Always(nn.Module):
    def forward(self, x):
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(x), 3)


def constant(x, y):
    return Always(), (y == 0).double().mean().item()


class Flipped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return -self.model(x)


class Transposed(Flipped):
    def forward(self, x):
        return self.model(x).T


def nothing_returned(x, y):
    learned(epochs=1)(x, y)


def model_in_numpy_promise(model, promise):
    return model, np.float64(promise)


def two_folds(x, y):
    shares = []
    for part in (slice(0, 400), slice(400, 800)):
        rest = torch.ones(800, dtype=torch.bool)
        rest[part] = False
        model = trained(mlp(32), x[rest], y[rest], 12)
        shares.append(right(model, x[part], y[part]))
    return trained(mlp(32), x, y, 8), sum(shares) / 2


def weight_decay(x, y):
    order = torch.randperm(800)
    x, y = x[order], y[order]
    model = trained(mlp(50), x[:600], y[:600], 12, decay=1.0)
    return model, right(model, x[600:], y[600:])


def with_dropout():
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(10, 40), nn.Linear(40, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


WRONG = {
    "diagnosis": [
        judged(lambda t, v, g: v > g, missed),
        judged(reached, lambda t, v, g: t <= g),
        judged(lambda t, v, g: v >= g - 1e-3, missed),
        judged(lambda t, v, g: t >= g, lambda t, v, g: v < g),
        judged(lambda t, v, g: t >= g and v >= g, missed),
        judged(lambda t, v, g: min(t, v) >= g, missed),
        judged(lambda t, v, g: v >= 0.9, lambda t, v, g: t < 0.9),
        judged(lambda t, v, g: round(v, 2) >= round(g, 2), missed),
        judged(reached, lambda t, v, g: t >= g),
        judged(reached, lambda t, v, g: t < v),
        judged(reached, lambda t, v, g: t - v < 0.05),
        judged(reached, lambda t, v, g: True),
        judged(reached, lambda t, v, g: False),
        judged(lambda t, v, g: abs(t - v) < 0.02, missed),
        judged(reached, missed, ("Fine", "Underfitting", "Overfitting")),
        judged(reached, missed, ("fine", "underfit", "overfit")),
        judged(reached, missed, (0, 1, 2)),
        judged(reached, missed, ("fine ", "underfitting", "overfitting")),
        judged(reached, missed, ("fine", None, "overfitting")),
        judged(lambda t, v, g: int(100 * v) >= int(100 * g), missed),
        judged(lambda t, v, g: int(1000 * v) >= int(1000 * g), missed),
        judged(lambda t, v, g: round(v, 4) >= round(g, 4), missed),
        judged(lambda t, v, g: v >= g or math.isclose(v, g, rel_tol=1e-6), missed),
        judged(reached, lambda t, v, g: round(t, 6) < round(g, 6)),
        training_first,
        last_forgotten,
        lambda training, validation, goal: training_first(validation, training, goal),
    ],
    "early_stop": [
        stopped(better=lambda loss, best: loss <= best),
        stopped(better=lambda loss, best: not loss >= best),  # nan too
        stopped(better=lambda loss, best: loss > best),
        stopped(better=lambda loss, best: loss < best - 0.01),
        stopped(better=lambda loss, best: loss < best, start=lambda losses: 1.0),
        stopped(start=lambda losses: losses[0]),  # nan, or epoch 0
        stopped(over=lambda bad, patience: bad > patience),
        stopped(over=lambda bad, patience: bad >= patience - 1),
        stopped(over=lambda bad, patience: bad >= 3),
        stopped(over=lambda bad, patience: False),
        stopped(over=lambda bad, patience: bad > 0),
        stopped(bad_after=lambda bad, improved: bad + (not improved)),  # not in a row
        stopped(bad_after=lambda bad, improved: 0 if improved else bad),
        stopped(result=lambda best, last, losses: (best - 1, last - 1)),
        stopped(result=lambda best, last, losses: (best, last - 1)),
        stopped(result=lambda best, last, losses: (best, last + 1)),
        stopped(result=lambda best, last, losses: (best, len(losses))),
        stopped(result=lambda best, last, losses: (last, last)),
        stopped(result=lambda best, last, losses: (last, best)),
        stopped(result=lambda best, last, losses: (best, best)),
        stopped(result=lambda best, last, losses: (losses[best - 1], last)),
        stopped(result=lambda best, last, losses: best),
        stopped(better=lambda loss, best: loss < best - 1e-4),
        stopped(better=lambda loss, best: loss < best - 1e-8),
        stopped(better=lambda loss, best: loss < best and not math.isclose(loss, best)),
        stopped(better=lambda loss, best: round(loss, 6) < round(best, 6)),
        stopped(better=lambda loss, best: np.float32(loss) < np.float32(best)),
        stopped(better=lambda loss, best: abs(loss) < abs(best)),
        stopped(start=lambda losses: 1e9),
        first_is_best,
        nan_skipped,
        nan_stops,
        than_the_one_before,
        of_all_losses,
        only_if_it_stops,
        by_min,
    ],
    "true_accuracy": [
        lambda reported, N, R: reported,
        lambda reported, N, R: true_p(reported, N, 1),
        lambda reported, N, R: true_p(reported, N, 5),
        lambda reported, N, R: true_p(reported, 100, R),
        lambda reported, N, R: true_p(reported, N, R + 1),
        lambda reported, N, R: true_p(reported, N, max(R - 1, 1)),
        lambda reported, N, R: round(true_p(reported, N, R), 4),
        lambda reported, N, R: 100 * true_p(reported, N, R),
        lambda reported, N, R: 1 - true_p(reported, N, R),
        lambda reported, N, R: most(reported, N, R),
        lambda reported, N, R: 2 * reported - most(reported, N, R),
        lambda reported, N, R: reported ** (1 / R),
        halved(times=8),
        halved(upwards=False),
        halved(low=0.5),
        halved(least),
        halved(median_of_the_best),
        halved(lambda p, N, R: most(p, N, R) * N),
        halved(lambda p, N, R: 1 - (1 - p) ** R),
        halved(lambda p, N, R: most(p, N, 1 / R)),
        halved(
            lambda p, N, R: (
                (1 - stats.binom.cdf(np.arange(N), N, p) * R).sum() / N  # times R
            )
        ),
        halved(
            lambda p, N, R: (
                (1 - stats.binom.cdf(np.arange(1, N + 1), N, p) ** R).sum() / N
            )
        ),
        halved(lambda p, N, R: (1 - stats.binom.pmf(np.arange(N), N, p) ** R).sum() / N),
        halved(lambda p, N, R: (stats.binom.cdf(np.arange(N), N, p) ** R).sum() / N),
        halved(
            lambda p, N, R: (
                (
                    1 - stats.norm.cdf(np.arange(N), N * p, (N * p * (1 - p)) ** 0.5) ** R
                ).sum()
                / N
            )
        ),
        typical_noise,
        by_a_normal,
        on_a_grid,
        by_trying,
    ],
    "learn": [
        learned(lambda model, promise: (model, 100 * promise)),
        learned(lambda model, promise: (model, 1 - promise)),
        learned(lambda model, promise: (model, 1.0)),
        learned(lambda model, promise: (model, 0.0)),
        learned(lambda model, promise: (model, 0.95)),
        learned(lambda model, promise: (model, math.nan)),
        learned(lambda model, promise: (model, None)),
        learned(lambda model, promise: (model, f"{promise:.0%}")),
        learned(lambda model, promise: (promise, model)),
        learned(lambda model, promise: model),
        learned(lambda model, promise: (model.state_dict(), promise)),
        learned(lambda model, promise: (mlp(), promise)),  # another one, untrained
        learned(lambda model, promise: (Flipped(model), promise)),
        learned(lambda model, promise: (Transposed(model), promise)),
        learned(lambda model, promise: (model[:1], promise)),
        learned(make=lambda: mlp(outputs=2)),
        learned(epochs=0),
        lambda x, y: (mlp(), 0.75),
        by_heart,
        by_heart_but_honest,
        nearest,
        shuffled_labels,
        constant,
        nothing_returned,
    ],
}

RIGHT = {
    "diagnosis": [
        by_conditionals,
        nested,
        matched,
        Diagnosis(),
        judged(lambda t, v, g: not v < g, lambda t, v, g: not t >= g),
        judged(lambda t, v, g: v - g >= 0, lambda t, v, g: max(t, v) < g),
        lambda training, validation, goal: [
            "overfitting",
            "underfitting",
            "fine",
            "fine",
        ][2 * (validation >= goal) + (training < goal)],
        functools.partial(
            judged(
                reached,
                missed,
                tuple(map(np.str_, ("fine", "underfitting", "overfitting"))),
            )
        ),
    ],
    "early_stop": [
        with_while,
        stopped(),
        stopped_by_numpy,
        stopped_by_slices,
        stopped_by_torch,
        stopped_by_accumulate,
        stopped(better=lambda loss, best: not math.isnan(loss) and loss < best),
        stopped(over=lambda bad, patience: bad == patience),
    ],
    "true_accuracy": [
        halved(by_survival, 30),
        by_brentq,
        by_recursion,
        halved(by_differences),
        halved(by_betainc),
        halved(by_the_masses),
        lambda reported, N, R: round(true_p(reported, N, R), 6),
        lambda reported, N, R: torch.tensor(true_p(reported, N, R), dtype=torch.float64),
        lambda reported, N, R: optimize.bisect(
            lambda p: most(p, N, R) - reported, 0.0, 1.0
        ),
    ],
    "learn": [
        learned(),
        learned(make=lambda: mlp(20), epochs=30),
        learned(make=with_dropout, epochs=25),
        learned(make=TwoLayers, epochs=20),
        learned(model_in_numpy_promise, decay=0.1),
        learned(lambda model, promise: [model, torch.tensor(promise)]),
        two_folds,
        weight_decay,
    ],
}
