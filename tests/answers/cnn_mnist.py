"""Answers to the exercises of the lesson on CNNs for MNIST."""

import functools
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def count_by(
    conv=lambda c_in, c, k: c * (c_in * k * k + 1),
    side=lambda size, k: (size - k + 1) // 2,
    head=lambda values, hidden: (values + 1) * hidden + (hidden + 1) * 10,
    c_in=1,
):
    """The right count, with parts to be changed."""

    def answer(convs, hidden, size=28):
        total, channels = 0, c_in
        for c, k in convs:
            total += conv(channels, c, k)
            channels, size = c, side(size, k)
        return total + head(channels * size * size, hidden)

    return answer


right_count = count_by()


def one_map_in(convs, hidden, size=28):
    """The channels are not carried along."""
    total = 0
    for c, k in convs:
        total += c * (k * k + 1)
        size = (size - k + 1) // 2
    return total + (convs[-1][0] * size**2 + 1) * hidden + (hidden + 1) * 10


def size_halved_first(convs, hidden, size=28):
    return count_by(side=lambda size, k: size // 2 - k + 1)(convs, hidden, size)


def rounds_at_the_end(convs, hidden, size=28):
    return int(count_by(side=lambda size, k: (size - k + 1) / 2)(convs, hidden, size))


def two_layers_at_most(convs, hidden, size=28):
    return right_count(convs[:2], hidden, size)


def size_must_be_given(convs, hidden, size):
    """The statement gives it a default."""
    return right_count(convs, hidden, size)


def for_one_image_size(convs, hidden, size=28):
    if size == 28:
        return right_count(convs, hidden, size)


def counts_a_network(convs, hidden, size=28):
    """Arithmetic only, says the statement."""
    return sum(p.numel() for p in build(convs, hidden, size).parameters())


def counts_weights(convs, hidden, size=28):
    parameters = build(convs, hidden, size).parameters()
    return sum(p.numel() for p in parameters if p.ndim > 1)


def count_by_recursion(convs, hidden, size=28, c_in=1):
    if not convs:
        return hidden * (c_in * size**2) + hidden + 10 * hidden + 10
    (c, k), *rest = convs
    here = c_in * c * k**2 + c
    return here + count_by_recursion(rest, hidden, (size - (k - 1)) // 2, c)


def count_by_lists(convs, hidden, size=28):
    channels = [1] + [c for c, _ in convs]
    sizes = [size]
    for _, k in convs:
        sizes.append((sizes[-1] - k + 1) // 2)
    pairs = zip(itertools.pairwise(channels), convs, strict=True)
    total = sum((a * k**2 + 1) * b for (a, b), (_, k) in pairs)
    total += sum([hidden * channels[-1] * sizes[-1] ** 2, hidden, hidden * 10, 10])
    return total


def count_in_numpy(convs, hidden, size=28):
    c_in, total = np.int64(1), np.int64(0)
    for c, k in np.array(convs, dtype=np.int64).reshape(-1, 2):
        total += np.prod([c_in, c, k, k]) + c
        c_in, size = c, (size - k + 1) >> 1
    return total + c_in * size**2 * hidden + hidden + hidden * 10 + 10


class Count:
    def __call__(self, convs, hidden, size=28):
        weights, biases, c_in = 0, 0, 1
        for c, k in convs:
            weights += c * c_in * k**2
            biases += c
            c_in, size = c, divmod(size - k + 1, 2)[0]
        for a, b in ((c_in * size * size, hidden), (hidden, 10)):
            weights += a * b
            biases += b
        return weights + biases


def dead_by_loops(maps):
    found = []
    for c in range(maps.shape[1]):
        dead = True
        for image in maps[:, c]:
            for row in image.tolist():
                dead = dead and not any(row)
        if dead:
            found.append(c)
    return found


def dead_by_filter(maps):
    alive = set(maps.nonzero()[:, 1].tolist())
    return sorted(set(range(maps.shape[1])) - alive)


def forgets_none_dead(maps):
    found = (maps.amax((0, 2, 3)) == 0).nonzero().flatten().tolist()
    if found:
        return found


def until_the_first_live(maps):
    found = []
    for c in range(maps.shape[1]):
        if maps[:, c].any():
            break
        found.append(c)
    return found


class Dead:
    def __call__(self, maps):
        return np.flatnonzero(maps.numpy().max(axis=(0, 2, 3)) == 0).tolist()


def build(
    convs,
    hidden,
    size=28,
    *,
    conv=nn.Conv2d,
    after=lambda c: [nn.MaxPool2d(2), nn.ReLU()],
    before=lambda values: [nn.Flatten()],
    between=lambda hidden: [nn.ReLU()],
    end=lambda: [nn.LogSoftmax(1)],
    linear=nn.Linear,
    side=lambda size, k: (size - k + 1) // 2,
):
    """The right network, with parts to be changed."""
    layers, c_in = [], 1
    for c, k in convs:
        layers += [conv(c_in, c, k), *after(c)]
        c_in, size = c, side(size, k)
    values = c_in * size * size
    layers += [*before(values), linear(values, hidden), *between(hidden)]
    return nn.Sequential(*layers, linear(hidden, 10), *end())


def build_with(**parts):
    return functools.partial(build, **parts)


def same(c_in, c, k):
    return nn.Conv2d(c_in, c, k, padding=k // 2)


def always_28(convs, hidden, size=28):
    return build(convs, hidden, 28)


def must_be_given(convs, hidden, size):
    """The statement gives it a default."""
    return build(convs, hidden, size)


def only_layers(convs, hidden, size=28):
    return list(build(convs, hidden, size))


def not_a_module(convs, hidden, size=28):
    net = build(convs, hidden, size)
    return lambda x: net(x)


def frozen(convs, hidden, size=28):
    return build(convs, hidden, size).requires_grad_(False)


def half_returned(convs, hidden, size=28):
    if size == 28:
        return build(convs, hidden, size)


def hidden_of_60(convs, hidden, size=28):
    return build(convs, 60, size)


def one_conv_shared(convs, hidden, size=28):
    """Equal layers become one."""
    made = functools.cache(nn.Conv2d)
    return build(convs, hidden, size, conv=made)


def kernels_of_5(convs, hidden, size=28):
    return build([(c, 5) for c, _ in convs], hidden, size)


class Changed(nn.Module):
    """The right network, and what it does changed."""

    def __init__(self, convs, hidden, size=28, change=None):
        super().__init__()
        self.net, self.change = build(convs, hidden, size), change

    def forward(self, x):
        return self.change(self.net, x)


def network_that(change):
    return functools.partial(Changed, change=change)


def under_no_grad(net, x):
    with torch.no_grad():
        return net(x)


class Written(nn.Module):
    def __init__(self, convs, hidden, size=28):
        super().__init__()
        self.convs = nn.ModuleList()
        c_in = 1
        for c, k in convs:
            self.convs.append(nn.Conv2d(c_in, c, k))
            c_in, size = c, (size - k + 1) // 2
        self.hidden = nn.Linear(c_in * size**2, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(F.max_pool2d(conv(x), kernel_size=2))
        return F.log_softmax(self.out(F.relu(self.hidden(x.flatten(1)))), dim=1)


class LastFirst(Written):
    """Its layers are registered in another order."""

    def __init__(self, convs, hidden, size=28):
        super().__init__(convs, hidden, size)
        convs = self.convs
        del self.convs
        self.convs = convs


class WithoutModules(nn.Module):
    def __init__(self, convs, hidden, size=28):
        super().__init__()
        shapes, c_in = [], 1
        for c, k in convs:
            shapes += [(c, c_in, k, k), (c,)]
            c_in, size = c, (size - k + 1) // 2
        shapes += [(hidden, c_in * size * size), (hidden,), (10, hidden), (10,)]
        self.all = nn.ParameterList(0.1 * torch.randn(*shape) for shape in shapes)

    def forward(self, x):
        *convs, w1, b1, w2, b2 = self.all
        for w, b in zip(convs[::2], convs[1::2], strict=True):
            x = F.conv2d(x, w, b).relu()
            x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
            x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
        z = (x.flatten(1) @ w1.T + b1).relu() @ w2.T + b2
        return z - z.logsumexp(1, keepdim=True)


def nested(convs, hidden, size=28):
    channels = [1, *(c for c, _ in convs)]
    blocks = []
    for (a, b), (_, k) in zip(itertools.pairwise(channels), convs, strict=True):
        blocks.append(nn.Sequential(nn.Conv2d(a, b, k), nn.ReLU(), nn.MaxPool2d(2, 2)))
        size = (size - k + 1) // 2
    head = nn.Sequential(nn.Linear(channels[-1] * size**2, hidden), nn.ReLU())
    last = nn.Sequential(nn.Linear(hidden, 10), nn.LogSoftmax(-1))
    return nn.Sequential(nn.Sequential(*blocks), nn.Flatten(), head, last)


def measured(convs, hidden, size=28):
    """The number of values is found by a trial."""
    layers, c_in = nn.Sequential(), 1
    for c, k in convs:
        layers.extend([nn.Conv2d(c_in, c, k), nn.MaxPool2d(2), nn.ReLU()])
        c_in = c
    with torch.no_grad():
        values = layers(torch.zeros(1, 1, size, size)).numel()
    layers.extend([nn.Flatten(), nn.Linear(values, hidden), nn.ReLU()])
    return layers.extend([nn.Linear(hidden, 10), nn.LogSoftmax(1)])


WRONG = {
    "count": [
        count_by(conv=lambda c_in, c, k: c * c_in * k * k),
        count_by(conv=lambda c_in, c, k: c * (c_in * k * k + c_in)),
        count_by(conv=lambda c_in, c, k: c * (c_in * k + 1)),
        count_by(conv=lambda c_in, c, k: c * (c_in + k * k + 1)),
        count_by(conv=lambda c_in, c, k: c * c_in * k * k + 1),
        count_by(conv=lambda c_in, c, k: c * (c_in * 25 + 1)),
        count_by(conv=lambda c_in, c, k: c * (c_in * k * k + 1), c_in=3),
        count_by(side=lambda size, k: size - k + 1),
        count_by(side=lambda size, k: size // 2),
        count_by(side=lambda size, k: (size - k) // 2),
        count_by(side=lambda size, k: (size - k + 2) // 2),
        count_by(side=lambda size, k: round((size - k + 1) / 2)),
        count_by(side=lambda size, k: (size - 4) // 2),
        count_by(side=lambda size, k: size - k + 1 - 2),
        count_by(head=lambda values, hidden: values * hidden + hidden * 10),
        count_by(head=lambda values, hidden: (values + 1) * hidden + hidden * 10),
        count_by(head=lambda values, hidden: values * hidden + (hidden + 1) * 10),
        count_by(head=lambda values, hidden: (values + 1) * hidden),
        count_by(head=lambda values, hidden: (values + 1) * 10),
        count_by(head=lambda values, hidden: (values + 1) * 60 + 61 * 10),
        count_by(head=lambda values, hidden: (values + 1) * hidden + (hidden + 1)),
        lambda convs, hidden, size=28: right_count(convs, hidden, 28),
        lambda convs, hidden, size=28: right_count(convs[::-1], hidden, size),
        lambda convs, hidden, size=28: right_count(convs, size, hidden),
        lambda convs, hidden, size=14: right_count(convs, hidden, size),
        one_map_in,
        size_halved_first,
        rounds_at_the_end,
        two_layers_at_most,
        size_must_be_given,
        for_one_image_size,
        counts_weights,
        counts_a_network,
    ],
    "dead_channels": [
        lambda maps: (maps.amax((0, 2, 3)) != 0).nonzero().flatten().tolist(),
        lambda maps: (maps.amin((0, 2, 3)) == 0).nonzero().flatten().tolist(),
        lambda maps: (maps.amax((1, 2, 3)) == 0).nonzero().flatten().tolist(),
        lambda maps: (maps[0].amax((1, 2)) == 0).nonzero().flatten().tolist(),
        lambda maps: (maps[-1].amax((1, 2)) == 0).nonzero().flatten().tolist(),
        lambda maps: (maps.amax((2, 3)) == 0).any(0).nonzero().flatten().tolist(),
        lambda maps: (maps.amax((2, 3)) == 0).nonzero().tolist(),
        lambda maps: (maps.amax((2, 3)) == 0).nonzero()[:, 1].tolist(),
        lambda maps: (maps[:, :, 0].amax((0, 2)) == 0).nonzero().flatten().tolist(),
        lambda maps: (maps.amax((0, 2))[:, 0] == 0).nonzero().flatten().tolist(),
        lambda maps: (maps.mean((0, 2, 3)) < 1e-3).nonzero().flatten().tolist(),
        lambda maps: (maps.amax((0, 2, 3)) < 1e-6).nonzero().flatten().tolist(),
        lambda maps: (maps.amax((0, 2, 3)).round() == 0).nonzero().flatten().tolist(),
        lambda maps: (maps.long().sum((0, 2, 3)) == 0).nonzero().flatten().tolist(),
        lambda maps: (
            (maps.square().sum((0, 2, 3)) == 0).nonzero().flatten().tolist()
            + [maps.shape[1]]
        ),
        lambda maps: (maps.amax((0, 2, 3)) == 0).tolist(),
        lambda maps: (maps.amax((0, 2, 3)) == 0).sum().item(),
        lambda maps: (maps.amax((0, 2, 3)) == 0).nonzero().tolist(),
        lambda maps: ((maps.amax((0, 2, 3)) == 0).nonzero().flatten() + 1).tolist(),
        lambda maps: dead_by_loops(maps)[::-1],
        lambda maps: dead_by_loops(maps)[:1],
        lambda maps: dead_by_loops(maps) or [0],
        lambda maps: dead_by_loops(maps[:, 1:]),
        lambda maps: dead_by_loops(maps[:, :-1]),
        lambda maps: dead_by_loops(maps[:, :, :-1, :-1]),
        lambda maps: [int(maps.amax((0, 2, 3)).argmin())],
        forgets_none_dead,
        until_the_first_live,
    ],
    "network": [
        build_with(after=lambda c: [nn.MaxPool2d(2)]),
        build_with(after=lambda c: [nn.AvgPool2d(2), nn.ReLU()]),
        build_with(after=lambda c: [nn.ReLU(), nn.AvgPool2d(2)]),
        build_with(after=lambda c: [nn.MaxPool2d(2), nn.Sigmoid()]),
        build_with(after=lambda c: [nn.MaxPool2d(2), nn.Tanh()]),
        build_with(after=lambda c: [nn.MaxPool2d(2), nn.GELU()]),
        build_with(after=lambda c: [nn.MaxPool2d(2), nn.LeakyReLU()]),
        build_with(after=lambda c: [nn.ReLU()], side=lambda size, k: size - k + 1),
        build_with(after=lambda c: [nn.BatchNorm2d(c), nn.MaxPool2d(2), nn.ReLU()]),
        build_with(after=lambda c: [nn.MaxPool2d(2), nn.ReLU(), nn.Dropout(0.5)]),
        build_with(
            after=lambda c: [nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()],
            side=lambda size, k: (size - k + 2) // 2,
        ),
        build_with(conv=functools.partial(nn.Conv2d, bias=False)),
        build_with(conv=same, side=lambda size, k: size // 2),
        build_with(side=lambda size, k: size // 2),
        build_with(between=lambda hidden: []),
        build_with(between=lambda hidden: [nn.Sigmoid()]),
        build_with(between=lambda hidden: [nn.ReLU(), nn.Dropout(0.5)]),
        build_with(between=lambda hidden: [nn.Linear(hidden, hidden), nn.ReLU()]),
        build_with(before=lambda values: []),
        build_with(before=lambda values: [nn.Flatten(0)]),
        build_with(linear=functools.partial(nn.Linear, bias=False)),
        build_with(end=lambda: []),
        build_with(end=lambda: [nn.Softmax(1)]),
        build_with(end=lambda: [nn.LogSoftmax(0)]),
        build_with(end=lambda: [nn.ReLU(), nn.LogSoftmax(1)]),
        build_with(end=lambda: [nn.LogSigmoid()]),
        network_that(under_no_grad),
        network_that(lambda net, x: net(x.detach()).detach()),
        network_that(lambda net, x: net(x).argmax(1)),
        network_that(lambda net, x: net(x)[0]),
        network_that(lambda net, x: net(x).exp()),
        network_that(lambda net, x: net[:-1](x).softmax(1).log()),  # log of 0
        network_that(lambda net, x: net(x.mT)),
        always_28,
        must_be_given,
        only_layers,
        not_a_module,
        frozen,
        half_returned,
        hidden_of_60,
        one_conv_shared,
        kernels_of_5,
    ],
}

RIGHT = {
    "count": [
        right_count,
        functools.partial(right_count),
        lambda convs, hidden, size=28: int(right_count(convs, hidden, size=size)),
        lambda convs, hidden, size=28: np.int64(right_count(convs, hidden, size)),
        count_by_recursion,
        count_by_lists,
        count_in_numpy,
        Count(),
    ],
    "dead_channels": [
        lambda maps: (maps.amax((0, 2, 3)) == 0).nonzero().flatten().tolist(),
        lambda maps: (maps == 0).all(3).all(2).all(0).nonzero().squeeze(1).tolist(),
        lambda maps: [c for c in range(maps.shape[1]) if not maps[:, c].any()],
        lambda maps: [c for c, m in enumerate(maps.unbind(1)) if m.max() <= 0],
        lambda maps: [c for c in range(maps.shape[1]) if maps[:, c].count_nonzero() == 0],
        lambda maps: [
            c for c, m in enumerate(maps.transpose(0, 1).flatten(1).sum(1)) if m == 0
        ],
        dead_by_loops,
        dead_by_filter,
        Dead(),
    ],
    "network": [
        build,
        build_with(after=lambda c: [nn.ReLU(), nn.MaxPool2d(2)]),
        build_with(between=lambda hidden: [nn.ReLU(inplace=True), nn.Dropout(0.0)]),
        build_with(end=lambda: [nn.LogSoftmax(-1)]),
        network_that(lambda net, x: net(x)),
        nested,
        measured,
        Written,
        WithoutModules,
        LastFirst,
    ],
}
