"""Exercises of the lesson on generalization."""

import copy
import math
import time
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise


def draw_accuracies(draw):
    """Two accuracies and a goal: equal, apart by less than a millionth, or far apart."""
    goal = draw.choice(draw.integer(10, 20) / 20, draw.uniform(0.5, 1))
    training, validation = (
        min(1.0, draw.choice(draw.integer(0, 20) / 20, draw.near(goal, least=3e-7)))
        for _ in range(2)
    )
    return training, validation, goal


def says(
    first="fine",
    low="underfitting",
    high="overfitting",
    reaches=lambda share, goal: share >= goal,
    learned=lambda share, goal: share >= goal,
):
    """`diagnosis` with other words, or another rule for who reaches the goal."""

    def diagnosis(training, validation, goal):
        if reaches(validation, goal):
            return first
        return high if learned(training, goal) else low

    return diagnosis


@exercise(
    inputs=draw_accuracies,
    cases={
        "Equal to the goal is at least the goal.": (0.95, 0.9, 0.9),
        "On its training images it just reaches the goal: at least.": (0.9, 0.8, 0.9),
        "Better on new images than on old ones: fine is fine.": (0.8, 0.9, 0.85),
        "0.9000396 is less than 0.90004: do not round.": (0.95, 0.9000396, 0.90004),
        "It misses the goal on its training images by a hair: do not round.": (
            0.9000396,
            0.8,
            0.90004,
        ),
    },
    mistakes={
        "A network that misses the goal on its training images is underfitting.": (
            says(low="overfitting", high="underfitting")
        ),
        "At least: validation == goal is fine.": (
            says(reaches=lambda share, goal: share > goal)
        ),
        "At least: training == goal is no underfitting.": (
            says(learned=lambda share, goal: share > goal)
        ),
        "What counts for fine is new images: compare validation with the goal.": (
            lambda training, validation, goal: says()(validation, training, goal)
        ),
    },
    hint="Fine if validation >= goal; else underfitting if training < goal.",
)
def diagnosis(training, validation, goal):
    """ "fine", "underfitting" or "overfitting"."""
    return says()(training, validation, goal)


def draw_losses(draw):
    """Losses of any size and sign, and a patience. Some are equal, some lower by a
    billionth, some NaN, the first one too."""
    scale, count = draw.choice(1.0, -1.0, 1e12), draw.integer(0, 3 * draw.size)
    losses = [draw.choice(3.0, draw.uniform(1, 4), math.nan)]
    for _ in range(count):
        beside = draw.near(losses[draw.integer(0, len(losses) - 1)])
        losses.append(draw.choice(1.0, 2.0, 3.0, beside, beside, math.nan))
    return [scale * loss for loss in losses], draw.integer(1, 2 + draw.size)


def kept_and_last(answer, losses, patience):
    """What the answer gives: an `observe`. Where no loss was a number until the stop,
    there is nothing to keep, and value 1 may be any."""
    given = answer(losses, patience)
    stopped = losses[: early_stop.solution(losses, patience)[1]]
    if all(map(math.isnan, stopped)) and isinstance(given, tuple | list):
        return "nothing to keep", *given[1:]
    return given


def wrong_stop(losses, patience, better=lambda loss, best, last: loss < best, reset=True):
    """`early_stop` with another rule for an improvement, or a count that goes on."""
    best, best_epoch, waited, last = math.inf, 0, 0, math.inf
    for epoch, loss in enumerate(losses, 1):
        if better(loss, best, last):
            best, best_epoch, waited = loss, epoch, 0 if reset else waited
        else:
            waited += 1
        last = loss
        if waited >= patience:
            break
    return best_epoch, epoch


def sees_the_future(losses, patience):
    _, epoch = early_stop.solution(losses, patience)
    return min(range(len(losses)), key=lambda k: losses[k]) + 1, epoch


@exercise(
    inputs=draw_losses,
    observe=kept_and_last,
    cases={
        "The loss still fell: train to the end.": ([3.0, 2.0, 1.0], 2),
        "Lower by a billionth is lower.": ([2 - k * 1e-9 for k in range(4)], 1),
        "2.4 is lower than 2.5, but not than the best.": ([2.0, 2.5, 2.4, 2.3, 1.0], 3),
        "A loss that is not a number improves nothing.": (
            [2.0, math.nan, math.nan, 1.0],
            2,
        ),
        "The first loss may be NaN: start from infinity.": ([math.nan, 2.0, 3.0, 1.0], 2),
        "A first loss that is NaN uses up a patience of 1.": ([math.nan, 5.0, 6.0], 1),
        "A loss may be negative: −2 is lower than −1.": ([-1.0, -2.0, -1.5, -1.6], 2),
    },
    mistakes={
        "Stop after `patience` epochs without improvement, not one later.": (
            lambda losses, patience: early_stop.solution(losses, patience + 1)
        ),
        "An equal loss is no improvement.": partial(
            wrong_stop, better=lambda loss, best, last: loss <= best
        ),
        "Lower than the epoch before is not lower than the best so far.": partial(
            wrong_stop, better=lambda loss, best, last: loss < last
        ),
        "NaN improves nothing: nan < x is false, and so is nan >= x.": partial(
            wrong_stop, better=lambda loss, best, last: not loss >= best
        ),
        "A new best starts the count again.": partial(wrong_stop, reset=False),
        "What comes after the stop is never seen.": sees_the_future,
    },
    hint="Value 1 is the best epoch so far, value 2 the last one; the first is 1.",
)
def early_stop(losses, patience):
    """The epoch that is kept, and the last one that is run."""
    best, best_epoch = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, best_epoch = loss, epoch
        elif epoch - best_epoch >= patience:
            break
    return best_epoch, epoch


def best_of(p, N, R):
    """The expected maximum of R binomial shares of N, each with probability p."""
    k = torch.arange(N, dtype=torch.float64)
    log_choose = math.lgamma(N + 1) - (k + 1).lgamma() - (N - k + 1).lgamma()
    log_weights = log_choose + k * math.log(p) + (N - k) * math.log1p(-p)
    return (1 - log_weights.exp().cumsum(0) ** R).mean().item()


def draw_reported(draw):
    """What somebody reports on average whose runs truly have a drawn accuracy."""
    N, R = draw.integer(20 * draw.size, 100 * draw.size), draw.integer(1, 10 * draw.size)
    return best_of(draw.uniform(0.1, 0.9), N, R), N, R


def halved(times=30, images=None, runs=None, grid=None):
    """`true_accuracy` with a mistake, such as another number of images than is given."""

    def true_accuracy(reported, N, R):
        low, high = 0.0, 1.0
        for _ in range(times):
            p = (low + high) / 2
            above = best_of(p, images or N, runs or R) > reported
            low, high = (low, p) if above else (p, high)
        return round(p, grid) if grid else p

    return true_accuracy


@exercise(
    inputs=draw_reported,
    cases={
        "The best of one run is that run: nothing flatters.": (0.9, 1000, 1),
        "Ten runs of the page's 10,000 images.": (0.9943, 10_000, 10),
    },
    mistakes={
        "Look for a p below it, whose expected maximum is the reported number.": (
            lambda reported, N, R: reported
        ),
        "Six digits are wanted: halve some 25 times or more.": halved(times=12),
        "Six digits are wanted: a grid of 0.001 is too coarse.": halved(grid=3),
        "N is that of the call, not the page's 10,000.": halved(images=10_000),
        "R is that of the call, not the page's 10.": halved(runs=10),
    },
    tolerance=2e-6,
    trials=10,
)
def true_accuracy(reported, N, R):
    """The p whose expected maximum is the reported share, by halving."""
    return halved()(reported, N, R)


def draw_objects(draw):
    """800 objects with their labels, and 4,000 new ones from the same distribution.

    Two clouds for each of three classes. Two labels of five are drawn anew, so about a
    quarter are wrong.
    """
    axes = torch.randperm(10, generator=draw.generator)[:3]
    centres = 3 * torch.eye(10)[axes]
    centres = torch.cat([centres, -centres])  # (6, 10)
    classes = torch.tensor([0, 1, 2, 1, 2, 0])  # no line separates them
    n = 800 + 4000
    cloud = draw.labels(n, 6)
    x = centres[cloud] + draw.normal(n, 10, dtype=torch.float32)
    hasty = torch.rand(n, generator=draw.generator) < 0.4
    y = torch.where(hasty, draw.labels(n, 3), classes[cloud])
    return x[:800], y[:800], x[800:], y[800:]


def right_share(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


def on_new_objects(answer, x, y, new_x, new_y):
    """What must hold of the network and of the promise that come back."""
    start = time.perf_counter()
    made = answer(x.clone(), y.clone())
    in_time = time.perf_counter() - start < 10
    if not isinstance(made, tuple | list) or len(made) != 2:
        return made
    model, promise = made
    if isinstance(model, nn.Module):
        model.eval()
    reached = right_share(model, new_x, new_y)
    return (
        f"62 of 100 new labels or more: {reached >= 0.62}",
        f"nearly all of the 800 labels, the wrong ones too: {right_share(model, x, y) > 0.8}",
        f"promise within 15 points of what is reached: {abs(promise - reached) < 0.15}",
        f"in ten seconds: {in_time}",
    )


PARTS = [150, 150, 500]  # choose the epoch, give the promise, train
trained_before = {}  # an answer is compared with each mistake: each is trained once


def learned(epochs=30, lr=0.005, keep_best=True, promise_on_unseen=True):
    """`learn` with a mistake: the last weights, too short a training, another promise."""

    def learn(x, y):
        key = epochs, lr, keep_best, promise_on_unseen, x.sum().item()
        if key not in trained_before:
            held, unseen, shown = zip(x.split(PARTS), y.split(PARTS), strict=True)
            model = small_network(shown, held, epochs, lr, keep_best)
            promise = right_share(model, *(unseen if promise_on_unseen else shown))
            trained_before[key] = model, promise
        return trained_before[key]

    return learn


def small_network(shown, held, epochs, lr, keep_best):
    """A network after this many epochs, with the best weights or the last ones."""
    (x, y), generator = shown, torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    lowest, kept = math.inf, None
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=generator).split(100):
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss = F.cross_entropy(model(held[0]), held[1]).item()
        if loss < lowest:
            lowest, kept = loss, copy.deepcopy(model.state_dict())
    if keep_best:
        model.load_state_dict(kept)
    return model


@exercise(
    inputs=draw_objects,
    mistakes={
        "These weights know the wrong labels by heart: put back a copy of the best ones.": (
            learned(100, 0.03, keep_best=False)
        ),
        "Learned by heart, and promised from what it has seen: hold examples out.": (
            learned(100, 0.03, keep_best=False, promise_on_unseen=False)
        ),
        "Hardly better than a guess: that is underfitting. Train for longer.": (
            learned(1, 1e-5)
        ),
    },
    hint="Return two values, the network and the promise. Value 1 is its accuracy on new "
    "objects, value 2 on your 800, value 3 your promise, value 4 the time.",
    observe=on_new_objects,
    trials=1,
    seconds=60.0,  # it trains
)
def learn(x, y):
    """A network that does not learn wrong labels by heart, and what to expect of it."""
    return learned()(x, y)
