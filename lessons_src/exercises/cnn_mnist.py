"""Exercises of lesson 08: a convolutional network on MNIST."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lessons_src.exercises import exercise


def _sizes(draw):
    """Up to three convolutions, the hidden units, and the side of the image."""
    n = draw.integer(0, min(draw.size, 3))
    convs = [(draw.integer(1, 9), draw.integer(1, 5)) for _ in range(n)]
    return convs, draw.integer(1, 20), draw.integer(36, 50)


def _counted(channels=None, bias=1, round_up=0, side=None, last_bias=1):
    """`count` with a mistake: `channels` and `side` stand in for those that are right."""

    def count(convs, hidden, size=28):
        size, total, c_in = side or size, 0, 1
        for c_out, k in convs:
            total += c_out * ((channels or c_in) * k * k + bias)
            c_in, size = c_out, (size - k + 1 + round_up) // 2
        return total + (c_in * size**2 + last_bias) * hidden + (hidden + last_bias) * 10

    return count


@exercise(
    inputs=_sizes,
    cases={
        "This is R1b: the size is 28 where none is given.": ([(20, 5), (30, 5)], 60),
        "With no convolution the image itself is flattened.": ([], 5, 4),
    },
    mistakes={
        "A kernel has weights for every channel before it.": _counted(channels=1),
        "A convolution has a bias for each of its channels.": _counted(bias=0),
        "Does every linear output have a bias?": _counted(last_bias=0),
        "The size may be odd before a pool, which rounds down.": _counted(round_up=1),
        "The size need not be 28: it is an argument.": _counted(side=28),
    },
    hint="A convolution takes kernel - 1 off the size, and the pool behind it halves it.",
    tolerance=0,
    trials=15,
)
def count(convs, hidden, size=28):
    """The parameters of the network, built without memory and without random numbers."""
    with torch.device("meta"):
        layers, c_in = [], 1
        for c_out, k in convs:
            layers += [nn.Conv2d(c_in, c_out, k), nn.MaxPool2d(2)]
            c_in = c_out
        n = nn.Sequential(*layers)(torch.zeros(1, 1, size, size)).numel()
        layers += [nn.Linear(n, hidden), nn.Linear(hidden, 10)]
    return sum(p.numel() for layer in layers for p in layer.parameters())


def _maps(draw):
    """What leaves a ReLU, large or tiny, some channels and some images of it dead."""
    B, C, H, W = (draw.integer(1, 1 + draw.size) for _ in range(4))
    maps = draw.normal(B, C, H, W, scale=10.0 ** draw.integer(-7, 1)).relu()
    return (maps * draw.labels(C, 2).view(C, 1, 1) * draw.labels(B, 2).view(B, 1, 1, 1),)


def _dead_by(test):
    return lambda maps: [c for c in range(maps.shape[1]) if test(maps[:, c])]


@exercise(
    inputs=_maps,
    cases={"No channel is dead here: an empty list.": (torch.ones(2, 3, 2, 2),)},
    mistakes={
        "An image without any response does not make a channel dead: look at all.": (
            _dead_by(lambda maps: (maps.flatten(1) == 0).all(1).any())
        ),
        "Channels are dimension 1: go along images, rows and columns.": (
            lambda maps: (maps.amax((0, 1, 3)) == 0).nonzero().flatten().tolist()
        ),
        "One small value at one place of one image, and the channel is alive.": (
            _dead_by(lambda maps: maps.max() < 1e-3)
        ),
        "These are the channels that are alive.": _dead_by(lambda maps: maps.any()),
    },
)
def dead_channels(maps):
    """The numbers of the channels that are 0 at every place of every image."""
    return [c for c in range(maps.shape[1]) if not maps[:, c].any()]


def _layers(answer, *sizes):
    """The layers' names, their parameters, and what they give once these are set."""
    made = answer(*sizes)
    if not isinstance(made, nn.Sequential):
        return made
    generator = torch.Generator().manual_seed(0)
    for p in made.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    parameters = sum(p.numel() for p in made.parameters())
    z = made(torch.randn(2, sizes[0], 12, 12, generator=generator))
    return " ".join(type(layer).__name__ for layer in made), parameters, z


def _built(bias=False, order="cpnr", padding=0, kernel=None):
    """`block` with a mistake. order: the first letters of the layers."""

    def block(c_in, c_out, k, pool):
        layers = {
            "c": nn.Conv2d(c_in, c_out, kernel or k, bias=bias, padding=padding),
            "p": nn.MaxPool2d(2),
            "n": nn.BatchNorm2d(c_out),
            "r": nn.ReLU(),
        }
        return nn.Sequential(*(layers[x] for x in order if x != "p" or pool))

    return block


@exercise(
    inputs=lambda draw: (
        draw.integer(1, draw.size),
        draw.integer(1, 1 + draw.size),
        draw.integer(1, 5),
        draw.choice(False, True),
    ),
    mistakes={
        "The convolution has no bias: the norm's β does its work.": _built(bias=True),
        "The pool stands directly behind the convolution.": _built(order="cnrp"),
        "The pool stands before the norm.": _built(order="cnpr"),
        "Batch normalisation is missing.": _built(order="cpr"),
        "Nothing is padded.": _built(padding=1),
        "The kernel's size is an argument, not always 3.": _built(kernel=3),
    },
    hint="Return an nn.Sequential. Value 1 lists its layers, value 2 counts parameters, "
    "value 3 is what it gives for two images of 12×12.",
    observe=_layers,
    tolerance=1e-4,
    trials=15,
)
def block(c_in, c_out, k, pool):
    """Convolution, a pool where it is wanted, batch normalisation, ReLU."""
    layers = [nn.Conv2d(c_in, c_out, k, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(c_out), nn.ReLU())


def _convolution_and_norm(draw):
    """A weight, and the γ, β, mean, variance and ε of the norm behind it."""
    c_out, c_in, k = (draw.integer(1, 1 + draw.size) for _ in range(3))
    w, gamma, beta = (
        draw.normal(c_out, c_in, k, k),
        draw.normal(c_out),
        draw.normal(c_out),
    )
    var, eps = draw.normal(c_out).square() + 0.1, draw.choice(1e-5, 1e-3, 0.1, 0.5)
    return w, gamma, beta, draw.normal(c_out), var, eps


def _folded(scale=lambda v, eps: 1 / (v + eps).sqrt(), axis=0, mean_of=torch.mul):
    """`fold` with a mistake in 1/√(v + ε), in the factor's axis or in the mean's part."""

    def fold(w, gamma, beta, mean, var, eps):
        factor = gamma * scale(var, eps)
        return w * factor.view([-1 if d == axis else 1 for d in range(4)]), (
            beta - mean_of(mean, factor)
        )

    return fold


@exercise(
    inputs=_convolution_and_norm,
    cases={
        "The variance is 0 here: ε stands under the root, and keeps it from 0.": (
            torch.ones(2, 1, 1, 1).double(),
            *torch.tensor([[1.0, 2], [3, 4], [5, 6], [0, 0]]).double(),
            0.5,
        )
    },
    mistakes={
        "γ is divided by the root of the variance.": _folded(lambda v, e: 1 / (v + e)),
        "ε is added before the root is taken.": _folded(lambda v, e: 1 / (v.sqrt() + e)),
        "The factor belongs to the output channel, dimension 0.": _folded(axis=1),
        "The bias is β less the scaled mean.": _folded(mean_of=lambda mean, factor: mean),
    },
    hint="Value 1 is what multiplies z in γ(z − μ)/√(v + ε) + β, value 2 is the rest.",
)
def fold(w, gamma, beta, mean, var, eps):
    """The weight and the bias of the one convolution, from torch's own function."""
    weight, bias = fuse_conv_bn_weights(w, None, mean, var, eps, gamma, beta)
    return weight.detach(), bias.detach()


def _state(draw):
    """A state in the middle of a run, examples, and how many steps come."""
    N, D = draw.integer(1, 8 * draw.size), draw.integer(1, draw.size)
    random = torch.Generator().manual_seed(draw.integer(0, 10**6)).get_state()
    state = {"w": draw.normal(D), "v": draw.normal(D), "t": draw.integer(1, 9)}
    return state | {"random": random}, draw.normal(N, D), draw.normal(N), 1 + draw.size


def _in_two_parts(answer, state, x, y, n):
    """The state after n steps, and that after n more."""
    half = answer(state, x, y, n)
    return (half, answer(half, x, y, n)) if isinstance(half, dict) else half


def _stepped(lose=None, divide=8, renew=False, keep=False, in_place=False, fixed=False):
    """`go_on` with a mistake, such as an entry of the state that it loses."""

    def go_on(state, x, y, n):
        start = state | ({lose: 0 * state[lose]} if lose else {})
        w, v, generator = start["w"], start["v"], torch.Generator()
        generator.set_state(state["random"])
        for t in range(start["t"], start["t"] + n):
            if renew:
                generator.set_state(state["random"])
            index = torch.randint(len(x), (8,), generator=generator)
            v = 0.9 * v + x[index].T @ (x[index] @ w - y[index]) / divide
            step = 0.1 / (1 + (start["t"] if fixed else t)) * v
            w = w.sub_(step) if in_place else w - step
        random = state["random"] if keep else generator.get_state()
        return {"w": w, "v": v, "t": start["t"] + n, "random": random}

    return go_on


@exercise(
    inputs=_state,
    mistakes={
        "The velocity comes from the state: it does not start from zero.": _stepped("v"),
        "The number of steps comes from the state: it does not start at 0.": _stepped(
            "t"
        ),
        "The generator is set once and then goes on.": _stepped(renew=True),
        "The new state must hold the generator's new state.": _stepped(keep=True),
        "Write w = w - …: w -= … changes the state that was given.": _stepped(
            in_place=True
        ),
        "The gradient is xᵀ(xw − y)/8: a mean over the 8 examples.": _stepped(divide=1),
        "The rate uses the t of each step, not that of the first.": _stepped(fixed=True),
    },
    hint="Value 1 is the state after n steps, value 2 the one n steps later: first the "
    "gradient of the 8 examples drawn, then the velocity, then the weights.",
    observe=_in_two_parts,
    trials=12,
)
def go_on(state, x, y, n):
    """n more steps, taken by torch's own SGD."""
    w = state["w"].clone().requires_grad_()
    sgd = torch.optim.SGD([w], lr=1, momentum=0.9)
    sgd.state[w]["momentum_buffer"] = state["v"].clone()
    generator = torch.Generator()
    generator.set_state(state["random"])
    for t in range(state["t"], state["t"] + n):
        index = torch.randint(len(x), (8,), generator=generator)
        sgd.param_groups[0]["lr"] = 0.1 / (1 + t)
        (0.5 * F.mse_loss(x[index] @ w, y[index])).backward()
        sgd.step()
        sgd.zero_grad()
    v = sgd.state[w]["momentum_buffer"]
    return {"w": w.detach(), "v": v, "t": state["t"] + n, "random": generator.get_state()}
