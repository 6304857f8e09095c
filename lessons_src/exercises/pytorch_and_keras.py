"""Exercises of the appendix that lays Keras beside PyTorch.

Keras is imported where a network of the last exercise is built, and nowhere else: the
page has set its backend by then.
"""

import numpy as np
import torch
from torch import nn

from lessons_src.exercises import Draw, exercise


def _weight(draw):
    """A convolution's weight, (out, in, kh, kw); all four sizes may differ."""
    sizes = [draw.integer(1, 2 + draw.size) for _ in range(4)]
    return (draw.normal(*sizes),)


@exercise(
    inputs=_weight,
    cases={
        "Height and width keep their order: (kh, kw), not (kw, kh).": (
            torch.arange(6.0).view(1, 1, 2, 3),
        )
    },
    mistakes={
        "A change of shape moves no number: `permute` the dimensions, do not reshape.": (
            lambda weight: weight.reshape(
                *weight.shape[2:], weight.shape[1], weight.shape[0]
            )
        ),
        "Keras puts the inputs before the outputs: (kh, kw, in, out).": (
            lambda weight: weight.permute(2, 3, 0, 1)
        ),
        "Height and width keep their order: (kh, kw), not (kw, kh).": (
            lambda weight: weight.permute(3, 2, 1, 0)
        ),
    },
    hint="PyTorch holds (out, in, kh, kw), and Keras (kh, kw, in, out).",
)
def kernel_to_keras(weight):
    """A convolution's weight as Keras holds it: (out, in, kh, kw) -> (kh, kw, in, out)."""
    return weight.permute(2, 3, 1, 0)


def _settings(draw):
    """Keras's momentum and epsilon of a batch norm."""
    return draw.uniform(0.5, 0.999), draw.choice(1e-3, 1e-4, 1e-5)


@exercise(
    inputs=_settings,
    mistakes={
        "Keras's momentum is the share that is kept, PyTorch's the share that is new.": (
            lambda momentum, epsilon: {"momentum": momentum, "eps": epsilon}
        ),
        "Epsilon means the same in both: hand it over as it is.": (
            lambda momentum, epsilon: {"momentum": 1 - momentum, "eps": 1e-5}
        ),
    },
    hint="Return a dict of two settings for nn.BatchNorm2d: momentum and eps.",
    tolerance=1e-9,
)
def batch_norm_settings(momentum, epsilon):
    """Settings of nn.BatchNorm2d for those of Keras's BatchNormalization."""
    return {"momentum": 1 - momentum, "eps": epsilon}


def _map_sizes(draw):
    """Channels, height and width."""
    return tuple(draw.integer(1, 2 + draw.size) for _ in range(3))


def _order(*dims):
    """`flatten_order` with the maps' dimensions put into another order."""

    def flatten_order(C, H, W):
        return torch.arange(C * H * W).view(C, H, W).permute(dims).flatten()

    return flatten_order


@exercise(
    inputs=_map_sizes,
    cases={
        "Here are 2 channels of 2×2. Keras's second number is channel 1's first: 4.": (
            2,
            2,
            2,
        )
    },
    mistakes={
        "That is PyTorch's own order: Keras counts channels first, then goes right.": (
            _order(0, 1, 2)
        ),
        "That is the way back: which of Keras's numbers is PyTorch's number k?": (
            lambda C, H, W: _order(1, 2, 0)(C, H, W).argsort()
        ),
        "Keras goes right before it goes down: height before width.": _order(2, 1, 0),
    },
    hint="Number the maps as PyTorch flattens them, move the channel last, and flatten.",
)
def flatten_order(C, H, W):
    """For each place of Keras's flattened maps the place in PyTorch's: (C·H·W,) int64."""
    return torch.arange(C * H * W).view(C, H, W).permute(1, 2, 0).flatten()


def _network(draw, pools=(0, 2, 3), paddings=(1, 2)):
    """A small network of PyTorch, the side of its images, and images, channel last.

    pools: the sizes of a pooling, 0 for none.
    """
    side, channels = draw.integer(6, 9), draw.integer(1, 3)
    images = draw.normal(5, side, side, channels, dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(draw.integer(0, 10**6))
        modules, x = [], images.permute(0, 3, 1, 2)
        for _ in range(draw.integer(1, 2)):
            padding, pool = draw.choice(*paddings), draw.choice(*pools)
            conv = nn.Conv2d(x.shape[1], draw.integer(2, 4), 3, padding=padding)
            block = [conv, nn.ReLU()]
            if 0 < pool <= conv(x).shape[-1]:
                block.append(nn.MaxPool2d(pool))
            x = nn.Sequential(*block)(x)
            modules += block
        modules += [nn.Flatten(), nn.Linear(x[0].numel(), 6), nn.ReLU(), nn.Linear(6, 3)]
    return nn.Sequential(*modules), side, images


def _as_used(twin, network, side, images):
    """Whether it is a network of Keras, its number of weights, what it answers, and
    whether the first network is as it was."""
    import keras

    before = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    model = twin(network, side)
    after = torch.nn.utils.parameters_to_vector(network.parameters())
    kept = f"PyTorch's network is as it was: {torch.equal(before, after)}"
    if model is None or model is Ellipsis:
        return None
    if not isinstance(model, keras.Model):
        return f"a {type(model).__name__}, which is no network of Keras"
    with torch.no_grad():
        answers = model(images)  # a model of one's own has its weights from here on
    return model.count_params(), answers, kept


def _twin(ordered=True, flipped=False, same=False):
    """`twin` with a mistake: rows as they come, kernels turned, padding by its name."""

    def twin(network, side):
        import keras
        from keras import layers

        made, weights, maps = [], [], None
        for module in network:
            if isinstance(module, nn.Conv2d):
                filters, size = module.out_channels, module.kernel_size
                padding = "same" if same else "valid"
                made += [] if same else [layers.ZeroPadding2D(module.padding)]
                made.append(layers.Conv2D(filters, size, padding=padding))
                w = module.weight.detach()
                weights.append((w.flip(2, 3) if flipped else w).permute(2, 3, 1, 0))
                maps = filters
            elif isinstance(module, nn.Linear):
                made.append(layers.Dense(module.out_features))
                w = module.weight.detach()
                if maps and ordered:
                    n = round((module.in_features / maps) ** 0.5)
                    w = w.unflatten(1, (maps, n, n)).permute(0, 2, 3, 1).flatten(1)
                weights.append(w.T)
                maps = None
            elif isinstance(module, nn.MaxPool2d):
                made.append(layers.MaxPooling2D(module.kernel_size))
            else:
                made.append(
                    layers.ReLU() if isinstance(module, nn.ReLU) else layers.Flatten()
                )
            if isinstance(module, nn.Conv2d | nn.Linear):
                weights.append(module.bias.detach())
        channels = next(m for m in network if isinstance(m, nn.Conv2d)).in_channels
        model = keras.Sequential([keras.Input((side, side, channels)), *made])
        model.set_weights([np.asarray(w) for w in weights])
        return model

    return twin


@exercise(
    inputs=_network,
    cases={
        "Pooling and padding have sizes of their own.": (
            _network(Draw(0), pools=(3,), paddings=(2,))
        )
    },
    mistakes={
        "Every shape fits, and the answers differ: in which order are maps flattened?": (
            _twin(ordered=False)
        ),
        "Neither library turns a kernel: move its dimensions, and flip none.": (
            _twin(flipped=True)
        ),
        'Keras\'s padding="same" is one padding among others: ZeroPadding2D takes any.': (
            _twin(same=True)
        ),
    },
    hint="Value 1 is the number of weights, value 2 what the network answers to images "
    "(B, side, side, channels), value 3 what became of the network.",
    observe=_as_used,
    tolerance=1e-4,
    trials=4,
    seconds=60.0,  # it trains
    pure=False,  # networks are not compared
)
def twin(network, side):
    """The network of PyTorch as a network of Keras, with its weights."""
    return _twin()(network, side)
