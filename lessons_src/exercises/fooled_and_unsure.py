"""Exercises of the lesson on attacks and calibration."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise


def network(number, pixels, classes, width=32, scale=2.0):
    """A small network of its own for each number, in float64, with random weights."""
    generator = torch.Generator().manual_seed(number)
    sizes = (pixels, width, width, classes)
    layers = [nn.Flatten()]
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        linear = nn.Linear(n_in, n_out).double()
        random = torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)
        linear.weight.data = scale * random / n_in**0.5
        linear.bias.data.zero_()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def draw_target(draw):
    """A network by its number, images, labels to aim at, and a size of the step."""
    B, side = draw.integer(1, draw.size), draw.integer(2, 1 + draw.size)
    x = draw.normal(B, 1, side, side).sigmoid()
    return draw.integer(0, 10**6), x, draw.labels(B, 4), draw.choice(0.05, 0.2, 0.6)


def stepped(direction=-1, clamped=True, signed=True):
    """`towards` with a mistake in the direction, in the range or in the size."""

    def towards(model, x, target, eps):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(model(x), target, reduction="sum")
        (slope,) = torch.autograd.grad(loss, x)
        step = slope.sign() if signed else slope
        moved = (x + direction * eps * step).detach()
        return moved.clamp(0, 1) if clamped else moved

    return towards


@exercise(
    inputs=draw_target,
    mistakes={
        "This leads away from the target: its loss should fall, so step the other way.": (
            stepped(direction=1)
        ),
        "A pixel has left the range from 0 to 1: clamp.": stepped(clamped=False),
        "Each pixel moves by eps: take the sign of the gradient.": stepped(signed=False),
        "Nothing has moved.": lambda model, x, target, eps: x,
    },
    hint="x minus eps times the sign of the gradient of the target's loss, then a clamp.",
    observe=lambda answer, number, x, target, eps: answer(
        network(number, x[0].numel(), 4), x, target, eps
    ),
    names=("model", "x", "target", "eps"),
    trials=20,
)
def towards(model, x, target, eps):
    """One step of each pixel that lowers the loss at the target."""
    return stepped()(model, x, target, eps)


def draw_answers(draw):
    """Certainties without ties, which of the answers are right, and a share to refuse,
    of which no N here makes a half: either way to round it would do."""
    N = draw.integer(4, 8 * draw.size)
    order = torch.randperm(N, generator=draw.generator)
    certainty = (1 + order.double()) / (N + 1)
    right = (draw.normal(N) + 2 * certainty > 0.8).double()
    right[order.argmax()], right[order.argmin()] = 1.0, 0.0
    return certainty, right, draw.choice(0.27, 0.51, 0.61)


def refusing(sign=1, share_of=len, count=round, over="rest"):
    """`accuracy_of_rest` with a mistake in who is refused, or in what is averaged."""

    def accuracy_of_rest(certainty, right, refused):
        n = count(refused * share_of(certainty))
        kept = (sign * certainty).argsort()[n:]
        if over == "all":
            return right[kept].sum().item() / len(right)
        return right[kept].mean().item()

    return accuracy_of_rest


@exercise(
    inputs=draw_answers,
    cases={
        "Nothing is refused: the accuracy of all.": (
            torch.tensor([0.9, 0.5, 0.7]).double(),
            torch.tensor([1.0, 0.0, 0.0]).double(),
            0.0,
        ),
        "The nearest whole number to 0.7 · 4 is 3.": (
            torch.tensor([0.9, 0.5, 0.7, 0.8]).double(),
            torch.tensor([1.0, 0.0, 0.0, 0.0]).double(),
            0.7,
        ),
        "Three are equally unsure: still only one of them is refused.": (
            torch.tensor([0.5, 0.5, 0.5, 0.9]).double(),
            torch.tensor([1.0, 1.0, 1.0, 0.0]).double(),
            0.25,
        ),
    },
    mistakes={
        "The least sure answers are refused, not the surest.": refusing(sign=-1),
        "Average over the answers that are left, not over all.": refusing(over="all"),
        "Round to the nearest whole number, not down.": refusing(count=int),
        "`refused` is a share of the answers, not a certainty.": (
            lambda certainty, right, refused: right[certainty >= refused].mean().item()
        ),
    },
    hint="Sort by certainty, leave out the first round(refused * N), average the rest.",
)
def accuracy_of_rest(certainty, right, refused):
    """Accuracy where the least sure answers are refused."""
    return refusing()(certainty, right, refused)


def draw_linear(draw):
    """A linear classifier, a point, and a class, which leads in three cases of four."""
    K, D = draw.integer(2, 2 + draw.size), draw.integer(1, 2 * draw.size)
    W, b, x = draw.normal(K, D), draw.normal(K), draw.normal(D)
    leads = draw.integer(1, 4) < 4
    y = (W @ x + b).argmax().item() if leads else draw.integer(0, K - 1)
    return W, b, x, y


def needed(W, b, x, y, norm=1, bias=True, rival="easiest", floor=True):
    """`linear_flip` with a mistake in the norm, the rival, the bias or the zero."""
    z = W @ x + (b if bias else 0)
    others = [k for k in range(len(b)) if k != y]
    if rival == "nearest":
        others = [max(others, key=lambda k: z[k])]
    reach = [torch.linalg.vector_norm(W[y] - W[k], norm).item() for k in others]
    leads = [(z[y] - z[k]).item() for k in others]
    eps = [gap / length for gap, length in zip(leads, reach, strict=True)]
    return max(min(eps), 0.0) if floor else min(eps)


@exercise(
    inputs=draw_linear,
    cases={
        "The rival that is nearest is not the easiest to reach.": (
            torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0.5], [-9, -9, -9, -9]]).double(),
            torch.tensor([0.0, 0, 40]).double(),
            torch.ones(4).double(),
            0,
        ),
        "Class 1 is ahead of class 0 already.": (
            torch.eye(2).double(),
            torch.zeros(2).double(),
            torch.tensor([1.0, 3.0]).double(),
            0,
        ),
    },
    mistakes={
        "All pixels can move at once: the reach is a sum of absolute values.": partial(
            needed, norm=2
        ),
        "One pixel alone need not do it: add up the absolute values.": partial(
            needed, norm=torch.inf
        ),
        "The bias belongs to the lead.": partial(needed, bias=False),
        "Try every rival: the runner-up may be harder to lift than another.": partial(
            needed, rival="nearest"
        ),
        "Where another class is ahead already, it is 0.": partial(needed, floor=False),
    },
    hint="The smallest lead / sum(|w_y - w_k|) over the rivals k, and at least 0.",
    tolerance=1e-4,
)
def linear_flip(W, b, x, y):
    """The smallest change in every pixel that lets another class draw level."""
    return needed(W, b, x, y)


def draw_examined(draw):
    """A network by its number, images, noisy labels from its own softmax, and a size.

    Where hardly a label differs from the answer, no temperature is best: drawn anew.
    """
    number, T = draw.integer(0, 10**6), draw.choice(0.5, 2.0, 3.0)
    x = draw.normal(300, 1, 6, 6).sigmoid()
    with torch.no_grad():
        z = network(number, 36, 4, width=64, scale=3.0)(x)
    y = torch.multinomial((z / T).softmax(1), 1, generator=draw.generator)[:, 0]
    if not 0.1 < best_temperature(z, y) < 10:
        return draw_examined(draw)
    return number, x, y, 0.1


def misread(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) != y).double().mean().item()


def on_examination(answer, number, x, y, eps):
    """What must hold of the attacked images, and the temperature."""
    model = network(number, 36, 4, width=64, scale=3.0)
    given = x.clone()
    made = answer(model, given, y.clone(), eps)
    if not isinstance(made, tuple | list) or len(made) != 2:
        return made
    moved, T = made
    if not isinstance(moved, torch.Tensor) or moved.shape != x.shape:
        return moved, T
    by_one = misread(model, stepped(direction=1)(model, x, y, eps), y)
    by_many = misread(model, examined()(model, x, y, eps)[0], y)
    before, after = misread(model, x, y), misread(model, moved.detach().to(x.dtype), y)
    enough = after >= (by_one + by_many) / 2
    size = (moved - x).abs().max().item()
    return (
        f"no pixel moved by more than eps: {size <= eps + 1e-6}",
        f"pixels from 0 to 1: {bool(moved.min() >= 0 and moved.max() <= 1)}",
        f"more misread than before: {after > before}",
        f"more misread than after one step: {enough}",
        float(T),
        f"the images that were given are as they were: {torch.equal(given, x)}",
    )


def examined(steps=20, size=1.0, near=True, clamped=True, inverse=False, attacked=False):
    """`examine` with a mistake in the attack, or in the temperature."""

    def examine(model, x, y, eps):
        moved = x
        for k in range(1, steps + 1):
            moved = stepped(direction=1, clamped=False)(model, moved, y, size * eps / k)
            moved = moved.clamp(x - eps, x + eps) if near else moved
            moved = moved.clamp(0, 1) if clamped else moved
        with torch.no_grad():
            z = model(moved if attacked else x).double()
        T = best_temperature(z, y)
        return moved, 1 / T if inverse else T

    return examine


def best_temperature(z, y):
    """The temperature with the lowest cross-entropy, by halving."""
    own, low, high = z.gather(1, y[:, None])[:, 0], 0.01, 100.0
    for _ in range(60):
        T = (low * high) ** 0.5
        slope = (((z / T).softmax(1) * z).sum(1) - own).mean()
        low, high = (T, high) if slope > 0 else (low, T)
    return T


@exercise(
    inputs=draw_examined,
    mistakes={
        "One step is not enough: ask for the gradient again, and go on.": examined(
            steps=1
        ),
        "Come back after each step: no pixel may end further than eps away.": (
            examined(near=False)
        ),
        "A pixel has left the range from 0 to 1: clamp.": examined(clamped=False),
        "Step to where the loss is larger, not smaller.": examined(size=-1.0),
        "The temperature divides the logits; yours multiplies them.": (
            examined(inverse=True)
        ),
        "The temperature is fitted to the images as they are, not to attacked ones.": (
            examined(attacked=True)
        ),
    },
    hint="Return two values, the attacked images and the temperature. Values 1 to 4 are "
    "about the images, value 5 is the temperature, value 6 about what was given.",
    observe=on_examination,
    names=("model", "x", "y", "eps"),
    tolerance=1e-3,
    trials=3,
    seconds=60.0,  # it trains
)
def examine(model, x, y, eps):
    """Attacked images, and the temperature that fits the images themselves."""
    return examined()(model, x, y, eps)
