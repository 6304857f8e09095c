"""Answers to the exercises of the lesson on PyTorch and Keras."""

import functools

import keras
import numpy as np
import torch
from keras import layers
from torch import nn


def permuted(*order):
    return lambda weight: weight.permute(*order)


def shape_only(weight):
    out, into, h, w = weight.shape
    return torch.zeros(h, w, into, out)


def by_index(weight):
    out, into, h, w = weight.shape
    kernel = torch.empty(h, w, into, out, dtype=weight.dtype)
    for o in range(out):
        for i in range(into):
            kernel[:, :, i, o] = weight[o, i]
    return kernel


class Moved:
    def __call__(self, weight):
        return np.ascontiguousarray(np.moveaxis(weight.detach().numpy(), (0, 1), (3, 2)))


def settings(momentum=lambda m: 1 - m, eps=lambda e: e, keys=("momentum", "eps")):
    """The right settings, with one of them changed."""
    return lambda m, e: dict(zip(keys, (momentum(m), eps(e)), strict=True))


def by_keyword(momentum, epsilon):
    return dict(eps=epsilon, momentum=1.0 - momentum)


def of_a_layer(momentum, epsilon):
    layer = nn.BatchNorm2d(1, eps=epsilon, momentum=1 - momentum)
    return {name: getattr(layer, name) for name in ("momentum", "eps")}


def numbered(C, H, W):
    return torch.arange(C * H * W).view(C, H, W)


def ordered(*dims):
    return lambda C, H, W: numbered(C, H, W).permute(*dims).flatten()


def inverse(C, H, W):
    """Where each number goes, instead of where it comes from."""
    return ordered(1, 2, 0)(C, H, W).argsort()


def as_square(C, H, W):
    return ordered(1, 2, 0)(C, H, H)


def by_loops(C, H, W):
    order = []
    for h in range(H):
        for w in range(W):
            for c in range(C):
                order.append(c * H * W + h * W + w)
    return order


def by_formula(C, H, W):
    j = torch.arange(C * H * W)
    place, c = j.div(C, rounding_mode="floor"), j % C
    return c * H * W + place


def by_sorting(C, H, W):
    i = torch.arange(C * H * W)
    return torch.argsort(i % (H * W) * C + i // (H * W))


def with_grids(C, H, W):
    h, w, c = torch.meshgrid(*map(torch.arange, (H, W, C)), indexing="ij")
    return ((c * H + h) * W + w).reshape(-1)


def dense_weight(module, channels, side):
    """(n, in): the columns in Keras's order."""
    w = module.weight
    if channels:
        w = w.unflatten(1, (channels, side, side)).permute(0, 2, 3, 1).flatten(1)
    return w.mT


def twins(
    kernel=lambda w: w.permute(2, 3, 1, 0),
    dense=dense_weight,
    pad=lambda p: [layers.ZeroPadding2D(p)],
    pool=lambda k: layers.MaxPooling2D(k),
    relu=layers.ReLU,
    end=(),
    bias=lambda b: b,
    set_them=True,
    first_only=True,
):
    """The right twin, with one of its parts changed."""

    def twin(network, side):
        made = [keras.Input((side, side, network[0].in_channels))]
        weights, channels = [], None
        for module in network:
            if isinstance(module, nn.Conv2d):
                made += pad(module.padding)
                made.append(layers.Conv2D(module.out_channels, module.kernel_size))
                weights += [kernel(module.weight), bias(module.bias)]
                channels = module.out_channels
            elif isinstance(module, nn.MaxPool2d):
                made.append(pool(module.kernel_size))
            elif isinstance(module, nn.Flatten):
                made.append(layers.Flatten())
            elif isinstance(module, nn.Linear):
                made.append(layers.Dense(module.out_features))
                n = round((module.in_features / (channels or 1)) ** 0.5)
                weights += [dense(module, channels, n), bias(module.bias)]
                channels = None if first_only else channels
            elif relu:
                made.append(relu())
        model = keras.Sequential([*made, *(layer() for layer in end)])
        if set_them:
            model.set_weights([w.detach().numpy() for w in weights])
        return model

    return twin


def same_padding(network, side):
    """Every convolution keeps the size."""
    made = [keras.Input((side, side, network[0].in_channels))]
    for module in network:
        if isinstance(module, nn.Conv2d):
            k = module.kernel_size
            made.append(layers.Conv2D(module.out_channels, k, padding="same"))
        elif isinstance(module, nn.MaxPool2d):
            made.append(layers.MaxPooling2D(module.kernel_size))
        elif isinstance(module, nn.Flatten):
            made.append(layers.Flatten())
        elif isinstance(module, nn.Linear):
            made.append(layers.Dense(module.out_features))
        else:
            made.append(layers.ReLU())
    model = keras.Sequential(made)
    model.set_weights(twins()(network, side).get_weights())
    return model


def the_network_itself(network, side):
    return lambda images: network(torch.as_tensor(images).permute(0, 3, 1, 2))


def channels_first(network, side):
    """Takes images (B, C, side, side)."""
    model = twins()(network, side)
    inputs = keras.Input((network[0].in_channels, side, side))
    return keras.Model(inputs, model(layers.Permute((2, 3, 1))(inputs)))


def turns_the_network(network, side):
    """The twin is right; the network is not what it was."""
    model = twins()(network, side)
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.flip(0))
    return model


def with_permute(network, side):
    """Turns the maps back before they are flattened."""
    made, pairs = [keras.Input((side, side, network[0].in_channels))], []
    for module in network:
        if isinstance(module, nn.Conv2d):
            layer = layers.Conv2D(module.out_channels, module.kernel_size)
            made += [layers.ZeroPadding2D(module.padding), layer]
            pairs.append((layer, module.weight.permute(2, 3, 1, 0), module.bias))
        elif isinstance(module, nn.MaxPool2d):
            k = module.kernel_size
            made.append(layers.MaxPool2D(k, strides=module.stride))
        elif isinstance(module, nn.Flatten):
            made += [layers.Permute((3, 1, 2)), layers.Flatten()]
        elif isinstance(module, nn.Linear):
            layer = layers.Dense(module.out_features)
            made.append(layer)
            pairs.append((layer, module.weight.T, module.bias))
        else:
            made.append(layers.Activation("relu"))
    model = keras.Sequential(made)
    for layer, *values in pairs:
        layer.set_weights([v.detach().numpy() for v in values])
    return model


def functional(network, side):
    """Keras's functional interface, and activations inside of the layers."""
    modules = list(network)
    x = inputs = keras.Input((side, side, network[0].in_channels))
    jobs = []
    for k, module in enumerate(modules):
        after = modules[k + 1] if k + 1 < len(modules) else None
        act = "relu" if isinstance(after, nn.ReLU) else None
        if isinstance(module, nn.Conv2d):
            x = layers.ZeroPadding2D(module.padding)(x)
            layer = layers.Conv2D(module.out_channels, module.kernel_size, activation=act)
            x = layer(x)
            jobs.append((layer, module, None))
        elif isinstance(module, nn.MaxPool2d):
            x = layers.MaxPooling2D(module.kernel_size)(x)
        elif isinstance(module, nn.Flatten):
            maps = x.shape[1:]
            x = layers.Reshape((maps[0] * maps[1] * maps[2],))(x)
        elif isinstance(module, nn.Linear):
            layer = layers.Dense(module.out_features, activation=act)
            x = layer(x)
            first = not any(isinstance(m, nn.Linear) for _, m, _ in jobs)
            jobs.append((layer, module, maps if first else None))
        elif not isinstance(modules[k - 1], nn.Conv2d | nn.Linear):
            x = layers.ReLU()(x)
    model = keras.Model(inputs, x)
    for layer, module, maps in jobs:
        w = module.weight.detach().numpy()
        if maps:
            H, W, C = maps
            w = w.reshape(-1, C, H, W).transpose(0, 2, 3, 1).reshape(len(w), -1)
        w = w.T if w.ndim == 2 else w.transpose(2, 3, 1, 0)
        layer.set_weights([w, module.bias.detach().numpy()])
    return model


def by_assign(network, side):
    """Another network's weights are replaced one by one."""
    model = twins(set_them=False)(network, side)
    for variable, value in zip(
        model.weights, twins()(network, side).weights, strict=True
    ):
        variable.assign(value)
    return model


class Wrapped(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


WRONG = {
    "kernel_to_keras": [
        lambda weight: weight,
        lambda weight: weight.T,
        lambda weight: weight.mT,
        lambda weight: weight.transpose(0, 3),
        lambda weight: weight.reshape(*weight.shape[2:], *weight.shape[1::-1]),
        lambda weight: weight.reshape(*weight.shape[2:], *weight.shape[:2]),
        lambda weight: weight.permute(2, 3, 1, 0).flatten(),
        lambda weight: weight.permute(2, 3, 1, 0)[None],
        lambda weight: weight.permute(2, 3, 1, 0).shape,
        lambda weight: weight.permute(2, 3, 1, 0).flip(0, 1),
        lambda weight: weight.permute(2, 3, 1, 0).round(),
        lambda weight: permuted(2, 3, 1, 0)(weight[:1]),
        permuted(2, 3, 0, 1),
        permuted(3, 2, 1, 0),
        permuted(1, 2, 3, 0),
        permuted(0, 2, 3, 1),
        permuted(2, 1, 3, 0),
        permuted(3, 2, 0, 1),  # the inverse
        shape_only,
    ],
    "batch_norm_settings": [
        settings(momentum=lambda m: m),
        settings(momentum=lambda m: 0.01),
        settings(momentum=lambda m: 0.1),
        settings(momentum=lambda m: round(1 - m, 2)),
        settings(momentum=lambda m: 1 / m),
        settings(momentum=lambda m: m - 1),
        settings(momentum=lambda m: -m),
        settings(momentum=lambda m: 1 + m),
        settings(momentum=lambda m: (1 - m) / 2),
        settings(momentum=lambda m: 1 - m**2),
        settings(eps=lambda e: 1 - e),
        settings(eps=lambda e: 1e-5),
        settings(eps=lambda e: 1e-3),
        settings(eps=lambda e: e**2),
        settings(eps=lambda e: e**0.5),
        settings(eps=lambda e: round(e, 4)),
        settings(eps=lambda e: e / 2),
        settings(keys=("eps", "momentum")),
        settings(keys=("momentum", "epsilon")),
        settings(keys=("Momentum", "eps")),
        lambda m, e: (1 - m, e),
        lambda m, e: {"momentum": 1 - m},
        lambda m, e: {"momentum": 1 - m, "eps": e, "affine": True},
        lambda m, e: {"momentum": str(1 - m), "eps": str(e)},
        lambda m, e: {"momentum": [1 - m], "eps": [e]},
    ],
    "flatten_order": [
        ordered(0, 1, 2),
        ordered(2, 0, 1),
        ordered(2, 1, 0),
        ordered(0, 2, 1),
        ordered(1, 0, 2),
        inverse,
        as_square,
        lambda C, H, W: torch.arange(C * H * W).view(H, W, C).permute(2, 0, 1).flatten(),
        lambda C, H, W: torch.arange(C * H * W).view(H, W, C).flatten(),
        lambda C, H, W: (
            torch.arange(C * W * H)
            .view(C, W, H)
            .transpose(1, 2)
            .permute(1, 2, 0)
            .flatten()
        ),
        lambda C, H, W: torch.arange(C * H * W).view(C, -1).flatten(),
        lambda C, H, W: ordered(1, 2, 0)(C, H, W) + 1,
        lambda C, H, W: ordered(1, 2, 0)(C, H, W).float(),  # no index
        lambda C, H, W: ordered(1, 2, 0)(C, H, W)[:-1],
        lambda C, H, W: ordered(1, 2, 0)(C, H, W).flip(0),
        lambda C, H, W: ordered(1, 2, 0)(C, H, W)[None],
        lambda C, H, W: numbered(C, H, W).permute(1, 2, 0),
        lambda C, H, W: ordered(1, 2, 0)(C, H, W) % (H * W),
        lambda C, H, W: torch.randperm(C * H * W),
        lambda C, H, W: ordered(1, 2, 0)(C, 7, 7),
    ],
    "twin": [
        twins(dense=lambda module, channels, side: module.weight.mT),
        twins(kernel=lambda w: w.permute(3, 2, 1, 0)),
        twins(kernel=lambda w: w.permute(2, 3, 1, 0).flip(0, 1)),
        twins(kernel=lambda w: w),
        twins(pad=lambda p: []),
        twins(pad=lambda p: [layers.ZeroPadding2D(1)]),
        twins(pool=lambda k: layers.AveragePooling2D(k)),
        twins(pool=lambda k: layers.MaxPooling2D(k, strides=1)),
        twins(pool=lambda k: layers.MaxPooling2D(k, padding="same")),
        twins(pool=lambda k: layers.MaxPooling2D(2)),
        twins(relu=None),
        twins(relu=layers.LeakyReLU),
        twins(relu=lambda: layers.Activation("sigmoid")),
        twins(end=(layers.Softmax,)),
        twins(end=(layers.ReLU,)),
        twins(bias=torch.zeros_like),
        twins(set_them=False),
        same_padding,
        channels_first,
        the_network_itself,
        turns_the_network,
        lambda network, side: twins()(network, side).get_weights(),
        lambda network, side: twins()(network, 28),
        lambda network, side: network,
    ],
}

RIGHT = {
    "kernel_to_keras": [
        permuted(2, 3, 1, 0),
        lambda weight: weight.permute(2, 3, 1, 0).contiguous(),
        lambda weight: weight.movedim((0, 1), (3, 2)),
        lambda weight: weight.transpose(0, 2).transpose(1, 3).transpose(2, 3),
        lambda weight: torch.einsum("oihw->hwio", weight),
        lambda weight: np.transpose(weight.numpy(force=True), (2, 3, 1, 0)),
        lambda weight: weight.permute(2, 3, 1, 0).tolist(),
        lambda weight: weight.T.transpose(0, 1),
        functools.partial(torch.permute, dims=(2, 3, 1, 0)),
        by_index,
        Moved(),
    ],
    "batch_norm_settings": [
        settings(),
        settings(momentum=lambda m: -(m - 1)),
        settings(momentum=lambda m: torch.tensor(1 - m), eps=torch.tensor),
        settings(momentum=lambda m: np.float64(1) - m, eps=np.float64),
        lambda momentum, epsilon: {"eps": epsilon, "momentum": 1 - momentum},
        by_keyword,
        of_a_layer,
    ],
    "flatten_order": [
        ordered(1, 2, 0),
        lambda C, H, W: torch.arange(C * W * H).view(C, W, H).permute(1, 2, 0).flatten(),
        lambda C, H, W: numbered(C, H, W).movedim(0, -1).reshape(-1),
        lambda C, H, W: torch.arange(C * H * W).view(C, H * W).T.flatten(),
        lambda C, H, W: np.arange(C * H * W).reshape(C, H, W).transpose(1, 2, 0).ravel(),
        lambda C, H, W: torch.cat(
            [torch.arange(k, C * H * W, H * W) for k in range(H * W)]
        ),
        lambda C, H, W: torch.einsum("chw->hwc", numbered(C, H, W)).flatten(),
        by_loops,
        by_formula,
        by_sorting,
        with_grids,
    ],
    "twin": [
        twins(),
        twins(relu=lambda: layers.Activation("relu")),
        twins(pool=lambda k: layers.MaxPool2D(k, strides=k, padding="valid")),
        with_permute,
        functional,
        by_assign,
        lambda network, side: Wrapped(twins()(network, side)),
    ],
}
