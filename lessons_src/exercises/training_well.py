"""Exercises of the lesson on training well."""

import time

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise
from lessons_src.exercises.compare import as_tensor


def draw_sweep(draw):
    """Rates in any order, each once, and accuracies: many are equal, some better by less
    than a millionth."""
    n, scale = draw.integer(1, 2 + draw.size), draw.choice(1e-3, 1e-6, 1.0)
    rates = [scale * (k + draw.uniform()) for k in range(n)]
    order = torch.randperm(n, generator=draw.generator).tolist()
    close = draw.choice(True, False)
    scores = [
        draw.near(0.9, least=3e-7) if close else draw.choice(0.25, 0.5, 0.75)
        for _ in range(n)
    ]
    return [rates[k] for k in order], scores


def place_in_list(rates, scores):
    """`choose`, which takes the ends of the list for those of the grid."""
    best, _ = choose.solution(rates, scores)
    return best, best not in (rates[0], rates[-1])


@exercise(
    inputs=draw_sweep,
    cases={
        "The rates may come in any order.": ([0.1, 0.001, 0.01], [0.5, 0.8, 0.9]),
        "A single rate has no neighbours: it is not inside.": ([0.1], [0.9]),
        "An accuracy may be 0, and the best one too.": ([0.1, 0.01], [0.0, 0.0]),
        "0.984 is better than 0.981: do not round.": (
            [0.001, 0.01, 0.1],
            [0.981, 0.984, 0.97],
        ),
        "Twenty rates were tried: look at all of them.": (
            [k / 1000 for k in range(1, 21)],
            [*[0.5] * 18, 0.9, 0.8],
        ),
        "A rate may be tried twice: it is no larger than itself.": (
            [0.01, 0.1, 0.1],
            [0.5, 0.9, 0.8],
        ),
    },
    mistakes={
        "Of equal accuracies, the smallest rate is asked for.": lambda rates, scores: (
            choose.solution([-rate for rate in rates], scores)[0] * -1,
            choose.solution([-rate for rate in rates], scores)[1],
        ),
        "The best accuracy is the largest one.": lambda rates, scores: choose.solution(
            rates, [-score for score in scores]
        ),
        "Inside means that a smaller and a larger rate were tried, wherever they stand "
        "in the list.": place_in_list,
        "A best rate at the edge of what was tried is not inside.": (
            lambda rates, scores: (choose.solution(rates, scores)[0], True)
        ),
    },
    hint="Value 1 is the rate with the largest accuracy, value 2 is True where both a "
    "smaller and a larger rate were tried.",
)
def choose(rates, scores):
    """The rate with the best accuracy, and whether it lies inside the rates tried."""
    best = max(scores)
    rate = min(r for r, score in zip(rates, scores, strict=True) if score == best)
    return rate, min(rates) < rate < max(rates)


def draw_units(draw):
    """x, W, b of whole numbers: sums of exactly 0 are frequent."""
    N, D = draw.integer(1, 2 * draw.size), draw.integer(1, 2 + draw.size)
    H = draw.integer(1, 3 + draw.size)
    drawn = draw.normal(N, D), draw.normal(H, D), draw.normal(H, scale=2)
    return tuple(v.round() + 0.0 for v in drawn)  # + 0.0: no negative zeros


def wrong_activity(is_dead, is_linear):
    """`activity` with two wrong questions about the sums u (N, H)."""

    def activity(x, W, b):
        u = x @ W.T + b
        return is_dead(u).sum().item(), is_linear(u).sum().item()

    return activity


@exercise(
    inputs=draw_units,
    cases={
        "All sums are 0 here.": (torch.zeros(2, 1), torch.ones(1, 1), torch.zeros(1)),
        "A small number is not zero.": (
            torch.full((2, 1), 1e-30),
            torch.ones(1, 1),
            torch.zeros(1),
        ),
        "Fifteen units of twenty are dead here, the others linear.": (
            torch.cat([torch.zeros(2, 19), torch.full((2, 1), 3.0)], 1),
            torch.ones(20, 20),
            torch.tensor([-2.0, -4.0, -4.0, -4.0]).repeat(5),
        ),
        "Only the last of forty examples is above zero: look at all.": (
            torch.cat([torch.zeros(39, 1), torch.ones(1, 1)]),
            torch.ones(1, 1),
            torch.zeros(1),
        ),
    },
    mistakes={
        "Dead is zero for every example: go along dimension 0.": (
            wrong_activity(lambda u: (u <= 0).all(1), lambda u: (u > 0).all(1))
        ),
        "Zero for some examples and not for others is neither dead nor linear.": (
            wrong_activity(lambda u: (u <= 0).any(0), lambda u: (u > 0).any(0))
        ),
        "A sum of exactly 0 gives 0: it counts as zero, not as above.": (
            wrong_activity(lambda u: (u < 0).all(0), lambda u: (u >= 0).all(0))
        ),
        "Do not forget the bias: the sum is xWᵀ + b.": (
            lambda x, W, b: activity.solution(x, W, 0 * b)
        ),
    },
    hint="Value 1: dead, value 2: linear. Both are asked about a unit over all examples.",
)
def activity(x, W, b):
    """How many ReLU units are dead, and how many never bend."""
    hidden = F.relu(F.linear(x, W, b))  # (N, H)
    return (hidden.amax(0) == 0).sum().item(), (hidden.amin(0) > 0).sum().item()


def disc_in_ring(normal, uniform, n, scale, offset):
    """n points of two classes: a disc, and the ring around it; in some unit."""
    y = torch.arange(n) % 2  # (n,)
    radius = torch.where(y == 0, uniform(n), 1.5 + uniform(n))
    direction = F.normalize(normal(n, 2))
    return scale * radius[:, None] * direction + offset, y


def four_clouds(normal, uniform, n, scale, offset):
    """n points of four classes, about the corners of a square; in some unit."""
    y = torch.arange(n) % 4  # (n,)
    corners = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
    return scale * (corners[y] + 0.5 * normal(n, 2)) + offset, y


def task(shape, generator, scale=1.0, offset=0.0):
    """Examples x, y to train on, and new ones of the same kind."""

    def normal(*size):
        return torch.randn(*size, generator=generator)

    def uniform(*size):
        return torch.rand(*size, generator=generator)

    x, y = shape(normal, uniform, 600, scale, offset)
    return x[:300], y[:300], x[300:], y[300:]


def draw_task(draw):
    """A disc in a ring or four clouds, in a unit of their own."""
    shape = draw.choice(disc_in_ring, four_clouds)
    scale = draw.choice(0.001, 1.0, 300.0)
    return task(shape, draw.generator, scale, 3 * scale * draw.choice(-1, 1))


def new_points_right(answer, x, y, new_x, new_y):
    """Whether a network trained on x, y gets the new points right, also one at a time,
    and whether it was trained in time."""
    start = time.perf_counter()
    predict = answer(x, y)
    seconds = time.perf_counter() - start
    if not callable(predict):
        return predict
    with torch.no_grad():
        given = [predict(new) for new in (new_x, *new_x[:8].split(1))]
    if given[0] is None:
        return None
    logits, *alone = map(as_tensor, given)
    if logits.shape != (len(new_x), 4):
        return (f"logits of the shape {tuple(logits.shape)}",)
    right = (logits.argmax(1) == new_y).double().mean().item()
    same = torch.equal(torch.cat(alone).argmax(1), logits[:8].argmax(1))
    return (
        f"{'at least' if right >= 0.95 else 'fewer than'} 19 of 20 new points right",
        f"trained in {'ten' if seconds <= 10 else 'more than ten'} seconds",
        f"a point alone is told {'the same' if same else 'something else'}",
    )


def trained(x, y, hidden=True, normalise=True, optimizer=torch.optim.Adam, lr=0.1):
    """A function that gives logits; the settings are those of mistakes."""
    torch.manual_seed(0)
    mean, std = (x.mean(0), x.std(0)) if normalise else (0.0, 1.0)
    layers = [nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 4)]
    model = nn.Sequential(*layers) if hidden else nn.Linear(2, 4)
    steps = optimizer(model.parameters(), lr=lr)
    for _ in range(40):
        loss = F.cross_entropy(model((x - mean) / std), y)
        steps.zero_grad()
        loss.backward()
        steps.step()
    return lambda new: model((new - mean) / std)


def fixed(seed):
    return torch.Generator().manual_seed(seed)


@exercise(
    inputs=draw_task,
    cases={
        "Four clouds at the corners of a square: one layer could part them. Are the "
        "steps long enough, and are there enough of them?": task(four_clouds, fixed(0)),
        "A disc and the ring around it: no line parts them. Is there a hidden layer, "
        "with an activation function?": task(disc_in_ring, fixed(1)),
        "These inputs lie about 900, and spread over hundreds. Are they normalised, by "
        "the mean and the standard deviation of the training examples?": task(
            disc_in_ring, fixed(2), 300.0, 900.0
        ),
    },
    mistakes={
        "No line parts a disc from the ring around it: the network needs a hidden layer, "
        "and an activation function after it.": lambda x, y: trained(x, y, hidden=False),
        "The inputs come in any unit: subtract the training examples' mean, and divide "
        "by their standard deviation.": lambda x, y: trained(x, y, normalise=False),
        "The steps are far too short: this network has hardly moved from its start.": (
            lambda x, y: trained(x, y, optimizer=torch.optim.SGD, lr=0.001)
        ),
    },
    hint="Value 1 says how many new points are right, value 2 how long the training took, "
    "value 3 whether a point alone gets the answer that it gets among others. Return a "
    "function that takes points (M, 2) and gives logits (M, 4), also where the examples "
    "are of fewer classes.",
    observe=new_points_right,
    trials=1,
    seconds=60.0,  # it trains
    names=("x", "y", "new x", "new y"),
)
def train_classifier(x, y):
    """Normalised inputs, one hidden layer, forty steps of Adam."""
    return trained(x, y)
