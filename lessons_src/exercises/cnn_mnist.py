"""Exercises of the lesson on a convolutional network on MNIST."""

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import without


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
    observe=without(),  # arithmetic only
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
    """What leaves a ReLU, large or tiny, some channels and some images of it dead.

    In half of the draws a channel that lives does so at one place of one image.
    """
    B, C, H, W = (draw.integer(1, 1 + draw.size) for _ in range(4))
    maps = draw.normal(B, C, H, W, scale=10.0 ** draw.choice(-30, -7, 0, 2)).relu()
    if draw.choice(True, False):
        lives = F.one_hot(draw.labels(C, B * H * W), B * H * W)  # (C, B H W)
        maps = maps.max() * lives.view(C, B, H, W).transpose(0, 1)
    return (maps * draw.labels(C, 2).view(C, 1, 1) * draw.labels(B, 2).view(B, 1, 1, 1),)


def _dead_by(test):
    return lambda maps: [c for c in range(maps.shape[1]) if test(maps[:, c])]


@exercise(
    inputs=_maps,
    largest=12,
    cases={
        "No channel is dead here: an empty list.": (torch.ones(2, 3, 2, 2),),
        "Channel 0 lives in the last pixel of the last image: look at all.": (
            F.pad(torch.ones(1, 1, 1, 1), (8, 0, 8, 0, 0, 1, 19, 0)),
        ),
    },
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


def _small_sizes(draw):
    """One or two convolutions, the hidden units, and the side of the image."""
    n = draw.integer(1, 2)
    convs = [(draw.integer(1, 4), draw.integer(1, 4)) for _ in range(n)]
    return convs, draw.integer(2, 5), draw.integer(16, 19)


def _outputs(answer, convs, hidden, *given):
    """The shapes of the parameters; with these set, what comes out, and the gradients.

    Kernels come first, in whichever order the network's layers were registered.
    """
    model = answer(convs, hidden, *given)
    if not isinstance(model, nn.Module):
        return model
    (size,) = given or (28,)
    generator = torch.Generator().manual_seed(0)
    parameters = sorted(model.parameters(), key=lambda p: (-p.ndim, *p.shape))
    for p in parameters:
        generator.manual_seed(p.numel())  # the same for the same shape
        p.data = torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5
    images = torch.randn(3, 1, size, size, generator=generator)
    out, bright = model(images), model(1e4 * images)
    gradients = torch.autograd.grad(out.flatten()[::7].sum(), parameters)
    weights = [g.flatten() for g in gradients if g.ndim > 1]
    shapes = " ".join(str(tuple(p.shape)) for p in parameters)
    finite = f"finite for images 10,000 times as bright: {bright.isfinite().all()}"
    return shapes, out.detach(), torch.cat(weights), finite


class _Logarithm(nn.Module):
    def forward(self, logits):
        return logits.softmax(1).log()


def _network(end=None, bend=True, hidden_bend=True, bias=True, padding=0, pool=2):
    """`network` with a mistake. end: what stands in the place of the log-softmax."""

    def network(convs, hidden, size=28):
        layers, c_in = [], 1
        for c_out, k in convs:
            layers.append(nn.Conv2d(c_in, c_out, k, padding=padding, bias=bias))
            layers.append(nn.MaxPool2d(pool))
            layers += [nn.ReLU()] * bend
            c_in, size = c_out, (size + 2 * padding - k + 1) // pool
        layers += [nn.Flatten(), nn.Linear(c_in * size * size, hidden)]
        layers += [nn.ReLU()] * hidden_bend
        return nn.Sequential(*layers, nn.Linear(hidden, 10), end or nn.LogSoftmax(1))

    return network


@exercise(
    inputs=_small_sizes,
    cases={
        "This is R1b without its dropout. Its size, 28, is not given.": (
            [(20, 5), (30, 5)],
            60,
        ),
        "Layers of the same kind have parameters of their own.": (
            [(1, 2), (1, 2)],
            3,
            16,
        ),
        "A kernel of 1 leaves the size as it is.": ([(2, 1)], 3, 8),
    },
    mistakes={
        "The outputs are log-probabilities: LogSoftmax comes last.": _network(
            end=nn.Identity()
        ),
        "The outputs are the logarithms of probabilities, not these themselves.": (
            _network(end=nn.Softmax(1))
        ),
        "A probability may be 0, and its logarithm is not finite: LogSoftmax.": (
            _network(end=_Logarithm())
        ),
        "The softmax goes over the ten classes, dimension 1, not over the images.": (
            _network(end=nn.LogSoftmax(0))
        ),
        "A ReLU stands behind every convolution and its pool.": _network(bend=False),
        "A ReLU stands between the two linear layers.": _network(hidden_bend=False),
        "Each convolution has a bias.": _network(bias=False),
        "Nothing is padded.": _network(padding=1),
        "Each convolution is followed by a max-pool of 2.": _network(pool=1),
    },
    hint="Value 1 lists the shapes of the parameters, kernels first, value 2 is what comes "
    "out for three images, value 3 the gradients of the weights.",
    observe=_outputs,
    tolerance=1e-4,
    trials=12,
)
def network(convs, hidden, size=28):
    """Convolution, pool and ReLU for each pair, then two linear layers."""
    return _network()(convs, hidden, size)
