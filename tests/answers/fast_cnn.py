"""Answers to the exercises of the lesson on fast CNNs."""

import functools
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def unbiased(c_in, c_out, k):
    return nn.Conv2d(c_in, c_out, k, bias=False)


def block_by(
    conv=unbiased,
    pooling=lambda: [nn.MaxPool2d(2)],
    rest=lambda c: [nn.BatchNorm2d(c), nn.ReLU()],
    wrap=nn.Sequential,
):
    """The right block, with parts to be changed."""

    def answer(c_in, c_out, k, pool):
        layers = [conv(c_in, c_out, k), *(pooling() if pool else []), *rest(c_out)]
        return wrap(*layers)

    return answer


right_block = block_by()


def ordered(*names):
    """The parts in another order."""

    def answer(c_in, c_out, k, pool):
        parts = {
            "conv": nn.Conv2d(c_in, c_out, k, bias=False),
            "pool": nn.MaxPool2d(2),
            "norm": nn.BatchNorm2d(c_out),
            "relu": nn.ReLU(),
        }
        return nn.Sequential(*[parts[n] for n in names if pool or n != "pool"])

    return answer


def only_with_pool(c_in, c_out, k, pool):
    if pool:
        return right_block(c_in, c_out, k, pool)


class OwnModule(nn.Module):
    """An nn.Sequential, says the statement."""

    def __init__(self, c_in, c_out, k, pool):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(c_in, c_out, k, bias=False), pool
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x):
        x = self.conv(x)
        return F.relu(self.norm(F.max_pool2d(x, 2) if self.pool else x))


class Block(nn.Sequential):
    def __init__(self, c_in, c_out, k, pool):
        pooling = nn.MaxPool2d(kernel_size=2, stride=2) if pool else nn.Identity()
        conv = nn.Conv2d(c_in, c_out, (k, k), bias=False)
        super().__init__(conv, pooling, nn.BatchNorm2d(c_out), nn.ReLU())


def named_block(c_in, c_out, k, pool):
    layers = OrderedDict(conv=nn.Conv2d(c_in, c_out, k, bias=False))
    if pool:
        layers["pool"] = nn.MaxPool2d(2)
    layers.update(norm=nn.BatchNorm2d(c_out), relu=nn.ReLU(inplace=True))
    return nn.Sequential(layers)


def appended(c_in, c_out, k, pool):
    block = nn.Sequential()
    block.append(nn.Conv2d(c_in, c_out, k, 1, 0, bias=False))
    if pool is True:
        block.append(nn.MaxPool2d(2))
    block.append(nn.BatchNorm2d(c_out)).append(nn.ReLU())
    return block


def nested(c_in, c_out, k, pool):
    conv = nn.Sequential(nn.Conv2d(c_in, c_out, k, bias=False))
    tail = nn.Sequential(nn.BatchNorm2d(c_out), nn.ReLU())
    return (
        nn.Sequential(conv, nn.MaxPool2d(2), tail) if pool else nn.Sequential(conv, tail)
    )


def scale_of(gamma, var, eps):
    return gamma / (var + eps).sqrt()


def fold_by(scale=scale_of, shift=lambda beta, mean, s: beta - mean * s):
    """The right fold, with parts to be changed."""

    def answer(w, gamma, beta, mean, var, eps):
        s = scale(gamma, var, eps)
        return w * s[:, None, None, None], shift(beta, mean, s)

    return answer


def fold_after(change):
    """The right fold, changed, with all that is given at hand."""

    def answer(w, gamma, beta, mean, var, eps):
        folded, b = fold_by()(w, gamma, beta, mean, var, eps)
        return change(folded, b, w, scale_of(gamma, var, eps))

    return answer


def fold_map_by_map(w, gamma, beta, mean, var, eps):
    kernels, shifts = [], []
    for o in range(len(w)):
        s = float(gamma[o]) / (float(var[o]) + eps) ** 0.5
        kernels.append(w[o] * s)
        shifts.append(float(beta[o]) - s * float(mean[o]))
    return torch.stack(kernels), shifts


def fold_in_numpy(w, gamma, beta, mean, var, eps):
    w, gamma, beta, mean, var = (v.numpy() for v in (w, gamma, beta, mean, var))
    s = gamma / np.sqrt(var + eps)
    return w * s.reshape(-1, 1, 1, 1), beta - s * mean


def fold_by_torch(w, gamma, beta, mean, var, eps):
    return nn.utils.fusion.fuse_conv_bn_weights(w, None, mean, var, eps, gamma, beta)


def fold_by_a_matrix(w, gamma, beta, mean, var, eps):
    s = torch.diag(gamma * torch.rsqrt(var + eps))
    return (s @ w.flatten(1)).view(w.shape), beta - s @ mean


def fold_in_place(w, gamma, beta, mean, var, eps):
    w = w.clone()
    for o, kernel in enumerate(w):
        kernel *= scale_of(gamma[o], var[o], eps)
    return w, torch.addcmul(beta, mean, scale_of(gamma, var, eps), value=-1)


def fold_by_trial(w, gamma, beta, mean, var, eps):
    """What the norm makes of 0 and of 1 gives both constants."""
    ends = torch.stack([torch.zeros_like(mean), torch.ones_like(mean)])
    b, one = F.batch_norm(ends, mean, var, gamma, beta, eps=eps)
    return torch.einsum("oiuv,o->oiuv", w, one - b), b


class Fold:
    def __call__(self, w, gamma, beta, mean, var, eps):
        s = (gamma / (var + eps) ** 0.5).view(-1, 1, 1, 1)
        return [s.mul(w), (-mean).mul(s.flatten()).add(beta)]


def trained(model, images, labels, epochs=5, make=None, batch=40, loss=F.cross_entropy):
    """The model, trained by a plain loop."""
    make = make or (lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    optimizer = make(model.parameters())
    for _ in range(epochs):
        for index in torch.randperm(len(labels)).split(batch):
            value = loss(model(images[index]), labels[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return model


def small(channels=16, more=32, end=4, pool=lambda: nn.AdaptiveMaxPool2d(1)):
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, more, 3, bias=False),
        nn.BatchNorm2d(more),
        nn.ReLU(),
        pool(),
        nn.Flatten(),
        nn.Linear(more, end),
    )


def learn_by(model, **settings):
    """Train model() by these settings."""
    return lambda images, labels: trained(model(), images, labels, **settings)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 4))


def constant_step(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


def uphill(logits, labels):
    return -F.cross_entropy(logits, labels)


def on_the_first(images, labels):
    return trained(small(8, 8), images[:40], labels[:40])


def on_other_labels(images, labels):
    return trained(small(8, 8), images, labels[torch.randperm(len(labels))], 2)


def labels_out_of_order(images, labels):
    """The labels are not shuffled with the images."""
    model = small(8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels), 40):
            index = order[start : start + 40]
            loss = F.cross_entropy(model(images[index]), labels[start : start + 40])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def never_steps(images, labels):
    model = small(8, 8)
    for index in torch.randperm(len(labels)).split(200):
        F.cross_entropy(model(images[index]), labels[index]).backward()
    return model


def without_zero_grad_backwards(images, labels):
    """The gradients are thrown away before the step."""
    model = small(8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for index in torch.randperm(len(labels)).split(40):
        loss = F.cross_entropy(model(images[index]), labels[index])
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
    return model


class Remembers(nn.Module):
    """Right of the images given, not of new ones: the label of the nearest."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images.flatten(1), labels
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        nearest = torch.cdist(x.flatten(1), self.images).argmin(1)
        return self.weight * F.one_hot(self.labels[nearest], 4).to(x.dtype)


class Answers(nn.Module):
    """A trained network, and what it gives changed."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x))


def learn_and(change):
    return lambda images, labels: Answers(right_learn(images, labels), change)


def a_lambda(images, labels):
    model = right_learn(images, labels)
    return lambda x: model(x)


def the_loss(images, labels):
    model = trained(small(4, 4), images, labels, epochs=1)
    return F.cross_entropy(model(images), labels)


right_learn = learn_by(small)


class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 24, 3)
        self.norm = nn.BatchNorm2d(24)
        self.second = nn.Conv2d(24, 24, 3)
        self.again = nn.BatchNorm2d(24)
        self.out = nn.Linear(24, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.again(self.second(x)))
        return self.out(x.amax((2, 3)))


def by_a_loader(images, labels):
    model = Learner().train()
    data = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=50, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(6):
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def by_numpy_order(images, labels):
    model = small(24, 24)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    generator = np.random.default_rng()
    for _ in range(6):
        order = generator.permutation(len(labels))
        for start in range(0, len(order), 40):
            index = order[start : start + 40]
            loss = nn.CrossEntropyLoss()(model(images[index]), labels[index])
            for p in model.parameters():
                p.grad = None
            loss.backward()
            optimizer.step()
    return model


def with_log_probabilities(images, labels):
    model = small().append(nn.LogSoftmax(1))
    return trained(model, images, labels, loss=F.nll_loss)


def in_double(images, labels):
    """Its network takes what the images are."""
    model = Answers(small(), lambda z: z.double())
    return trained(model, images, labels)


def by_momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


WRONG = {
    "block": [
        ordered("conv", "norm", "pool", "relu"),
        ordered("conv", "norm", "relu", "pool"),
        ordered("conv", "pool", "relu", "norm"),
        ordered("conv", "relu", "norm", "pool"),
        ordered("pool", "conv", "norm", "relu"),
        ordered("norm", "relu", "conv", "pool"),
        ordered("conv", "pool", "relu"),
        ordered("conv", "pool", "norm"),
        ordered("conv", "norm", "relu"),
        block_by(conv=nn.Conv2d),
        block_by(conv=lambda a, b, k: nn.Conv2d(a, b, k, padding=k // 2, bias=False)),
        block_by(conv=lambda a, b, k: nn.Conv2d(a, b, 3, bias=False)),
        block_by(conv=lambda a, b, k: nn.Conv2d(b, a, k, bias=False)),
        block_by(conv=lambda a, b, k: nn.Conv2d(1, b, k, bias=False)),
        block_by(conv=lambda a, b, k: nn.Conv2d(a, b, k, stride=2, bias=False)),
        block_by(pooling=lambda: [nn.AvgPool2d(2)]),
        block_by(pooling=lambda: [nn.MaxPool2d(2, stride=1)]),
        block_by(pooling=lambda: [nn.MaxPool2d(3, stride=2)]),
        block_by(pooling=lambda: [nn.MaxPool2d(2, ceil_mode=True)]),
        block_by(pooling=lambda: [nn.MaxPool2d(2), nn.MaxPool2d(2)]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c)]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c), nn.Sigmoid()]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c), nn.LeakyReLU()]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c), nn.GELU()]),
        block_by(rest=lambda c: [nn.BatchNorm1d(c), nn.ReLU()]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c, affine=False), nn.ReLU()]),
        block_by(
            rest=lambda c: [nn.BatchNorm2d(c, track_running_stats=False), nn.ReLU()]
        ),
        block_by(rest=lambda c: [nn.InstanceNorm2d(c, affine=True), nn.ReLU()]),
        block_by(rest=lambda c: [nn.GroupNorm(1, c), nn.ReLU()]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c), nn.ReLU(), nn.Dropout(0.5)]),
        block_by(rest=lambda c: [nn.BatchNorm2d(c), nn.ReLU(), nn.BatchNorm2d(c)]),
        block_by(wrap=lambda *layers: list(layers)),
        block_by(wrap=lambda *layers: nn.ModuleList(layers)),
        block_by(wrap=lambda *layers: nn.Sequential(*layers).requires_grad_(False)),
        lambda c_in, c_out, k, pool: right_block(c_in, c_out, k, not pool),
        lambda c_in, c_out, k, pool: right_block(c_in, c_out, k, True),
        lambda c_in, c_out, k, pool: right_block(c_out, c_in, k, pool),
        only_with_pool,
        OwnModule,
    ],
    "fold": [
        fold_by(scale=lambda gamma, var, eps: gamma / var.sqrt()),
        fold_by(scale=lambda gamma, var, eps: gamma / (var.sqrt() + eps)),
        fold_by(scale=lambda gamma, var, eps: gamma / (var + eps)),
        fold_by(scale=lambda gamma, var, eps: gamma / (var + 1e-5).sqrt()),
        fold_by(scale=lambda gamma, var, eps: gamma / (var + eps**2).sqrt()),
        fold_by(scale=lambda gamma, var, eps: gamma * (var + eps).sqrt()),
        fold_by(scale=lambda gamma, var, eps: 1 / (var + eps).sqrt()),
        fold_by(scale=lambda gamma, var, eps: gamma.abs() / (var + eps).sqrt()),
        fold_by(scale=lambda gamma, var, eps: gamma),
        fold_by(scale=lambda gamma, var, eps: (gamma / (var + eps).sqrt())[:1]),
        fold_by(shift=lambda beta, mean, s: beta + mean * s),
        fold_by(shift=lambda beta, mean, s: beta - mean),
        fold_by(shift=lambda beta, mean, s: beta),
        fold_by(shift=lambda beta, mean, s: (beta - mean) * s),
        fold_by(shift=lambda beta, mean, s: mean * s - beta),
        fold_by(shift=lambda beta, mean, s: -mean * s),
        fold_by(shift=lambda beta, mean, s: beta * s - mean),
        fold_by(shift=lambda beta, mean, s: beta - mean / s),
        fold_by(shift=lambda beta, mean, s: (beta - mean * s)[:, None, None, None]),
        fold_by(shift=lambda beta, mean, s: (beta - mean * s).sum()),
        fold_after(lambda folded, b, w, s: folded),
        fold_after(lambda folded, b, w, s: (b, folded)),
        fold_after(lambda folded, b, w, s: (w, b)),
        fold_after(lambda folded, b, w, s: (w + s[:, None, None, None], b)),
        fold_after(lambda folded, b, w, s: (w / s[:, None, None, None], b)),
        fold_after(lambda folded, b, w, s: (w * s, b)),  # along the kernel's width
        fold_after(lambda folded, b, w, s: (w * s[: w.shape[1], None, None], b)),
        fold_after(lambda folded, b, w, s: (w * s[:, None], b)),
        fold_after(lambda folded, b, w, s: (w * s.mean(), b)),
        fold_after(lambda folded, b, w, s: (folded.flatten(1), b)),
        fold_after(lambda folded, b, w, s: (folded.transpose(0, 1), b)),
        fold_after(lambda folded, b, w, s: (folded.flip(2, 3), b)),
    ],
    "learn": [
        lambda images, labels: small(),
        learn_by(linear, epochs=1),
        learn_by(functools.partial(small, 8, 8), epochs=1, make=constant_step),
        learn_by(functools.partial(small, 8, 8), epochs=1, loss=uphill),
        learn_by(functools.partial(small, 4, 4, 1), epochs=1),
        learn_by(functools.partial(small, 8, 8, 3), epochs=1),  # one class is missing
        learn_by(
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 4)
            ),
            epochs=10,
        ),
        learn_by(functools.partial(small, 4, 4), epochs=1, batch=800),
        learn_and(lambda logits: logits.argmax(1)),
        learn_and(lambda logits: -logits),
        learn_and(lambda logits: logits.T),
        learn_and(lambda logits: logits.roll(1, 1)),
        learn_and(lambda logits: logits[:1]),
        learn_and(lambda logits: logits * float("nan")),
        on_the_first,
        on_other_labels,
        labels_out_of_order,
        never_steps,
        without_zero_grad_backwards,
        lambda images, labels: Remembers(images, labels),
        a_lambda,
        the_loss,
    ],
}

RIGHT = {
    "block": [
        right_block,
        Block,
        named_block,
        appended,
        nested,
        block_by(rest=lambda c: [nn.BatchNorm2d(c), nn.ReLU(inplace=True)]),
        block_by(pooling=lambda: [nn.MaxPool2d((2, 2))]),
        functools.partial(right_block),
    ],
    "fold": [
        fold_by(),
        fold_by(scale=lambda gamma, var, eps: gamma * (var + eps) ** -0.5),
        fold_by(scale=lambda gamma, var, eps: gamma * (var + eps).rsqrt()),
        fold_after(lambda folded, b, w, s: [folded.float(), b.float()]),
        fold_after(
            lambda folded, b, w, s: ((w.permute(1, 2, 3, 0) * s).movedim(3, 0), b)
        ),
        fold_map_by_map,
        fold_in_numpy,
        fold_by_torch,
        fold_by_a_matrix,
        fold_in_place,
        fold_by_trial,
        Fold(),
    ],
    "learn": [
        right_learn,
        learn_by(functools.partial(small, 24, 24), batch=32),
        learn_by(small, make=by_momentum, epochs=6),
        learn_and(lambda logits: logits.log_softmax(1)),
        by_a_loader,
        by_numpy_order,
        with_log_probabilities,
        in_double,
    ],
}
