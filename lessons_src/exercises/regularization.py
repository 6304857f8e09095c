"""Exercises of the lesson on regularisation."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import AUTOGRAD, without


def draw_logits(draw):
    """Logits, labels (some classes may have none), and alpha."""
    B, K = draw.integer(1, draw.size), draw.integer(2, 2 + draw.size)
    dtype = draw.choice(torch.float32, torch.float64)
    alpha = draw.choice(0.0, 1.0, draw.uniform(), draw.uniform())
    return draw.normal(B, K, dtype=dtype), draw.labels(B, K), alpha


def wrong_share(extra):
    """A gradient whose q gives the right class extra(alpha, K) more than it should."""

    def smoothed(z, y, alpha):
        more = extra(alpha, z.shape[1]) * F.one_hot(y, z.shape[1])
        return smoothed_gradient.solution(z, y, alpha) - more / len(y)

    return smoothed


@exercise(
    inputs=draw_logits,
    cases={
        "Huge logits: is all of it finite?": (
            torch.tensor([[1e4, 9999, 0], [-1e4, -9999, -1e4], [0, 1, 1e4]]).double(),
            torch.arange(3),
            0.3,
        )
    },
    mistakes={
        "Smoothing takes α away from the right class: q sums to 1.": (
            wrong_share(lambda alpha, K: alpha)
        ),
        "The right class gets its α/K too: 1 − α + α/K.": (
            wrong_share(lambda alpha, K: -alpha / K)
        ),
        "A class may be absent here: tell one_hot how many there are.": (
            lambda z, y, alpha: (
                (z.softmax(1) - (1 - alpha) * F.one_hot(y) - alpha / z.shape[1]) / len(y)
            )
        ),
        "The loss is a mean: divide by B, and by nothing else.": (
            lambda z, y, alpha: smoothed_gradient.solution(z, y, alpha) * len(y)
        ),
        "The other way round: p − q.": (
            lambda z, y, alpha: -smoothed_gradient.solution(z, y, alpha)
        ),
        "exp overflows unless the largest logit is subtracted first.": (
            lambda z, y, alpha: (
                smoothed_gradient.solution(z, y, alpha)
                + (z.exp() / z.exp().sum(1, keepdim=True) - z.softmax(1)) / len(y)
            )
        ),
    },
    hint="It is (p − q) / B. q is α/K everywhere and 1 − α more for the right class.",
    observe=without(*AUTOGRAD),
)
def smoothed_gradient(logits, labels, alpha):
    """The gradient of the mean label-smoothed cross-entropy."""
    logits = logits.clone().requires_grad_()
    loss = F.cross_entropy(logits, labels, label_smoothing=alpha)
    return torch.autograd.grad(loss, logits)[0]


def draw_dropout(draw):
    """Many channels of few pixels, so that shares can be told from chance."""
    H, W, percent = (
        draw.integer(1, 2),
        draw.integer(1, 2),
        draw.choice(0, draw.integer(20, 80)),
    )
    x, training = draw.normal(50, 60, H, W, dtype=torch.float32), draw.uniform() < 0.8
    return x, percent / 100, training, draw.integer(0, 9999)


def what_stays(answer, x, rate, training, seed):
    """The output in evaluation; in training, what holds whichever mask is drawn."""

    def drop(x, seed):
        y = answer(x, rate, training, torch.Generator().manual_seed(seed))
        return torch.as_tensor(y) if isinstance(y, np.ndarray | list) else y

    before = x.clone()
    y = drop(x, seed)
    if not training or not isinstance(y, Tensor) or y.shape != x.shape:
        return y
    others = [drop(before.clone(), seed + k) for k in range(6)]
    pixels = y != 0
    kept = pixels.any(3).any(2)  # (50, 60)
    stays = kept.double().mean().item()
    stays = 1 - rate if abs(stays - (1 - rate)) < 0.07 else stays  # 7 standard deviations
    counts = [kept.sum(0), kept.sum(1), torch.stack([(y != 0).sum() for y in others])]
    return (
        f"whole channels: {pixels.equal(kept[:, :, None, None].expand_as(x))}",
        f"factors: {sorted({round(f, 4) + 0.0 for f in (y / before).unique().tolist()})}",
        f"{stays:.0%} of the channels stay",
        f"masks differ between images: {len(kept.unique(dim=0)) > 25}",
        f"masks differ between channels: {len(kept.unique(dim=1).T) > 30}",
        f"how many stay varies: {[len(count.unique()) > 1 for count in counts]}",
        f"same seed, same mask: {y.equal(others[0])}; other: {y.equal(others[1])}",
    )


def wrong_dropout(x, rate, training, generator, of=(1, 1, 0, 0), scale=None, goes=None):
    """`channel_dropout` with a mask of another shape, or scaled otherwise.

    of: for each axis whether the mask has numbers of its own.
    """
    shape = [n if own else 1 for n, own in zip(x.shape, of, strict=True)]
    keep = torch.rand(shape, generator=generator) >= (goes or rate)
    return x * keep / (scale or 1 - rate) if training else x


@exercise(
    inputs=draw_dropout,
    mistakes={
        "A channel goes as a whole: its pixels share one number of the mask.": (
            partial(wrong_dropout, of=(1, 1, 1, 1))
        ),
        "What stays is divided by the probability of staying, 1 − rate.": (
            partial(wrong_dropout, scale=1)
        ),
        "The rate is the probability of dropping, and 1 − rate that of staying.": (
            lambda x, rate, *others: wrong_dropout(x, rate, *others, goes=1 - rate)
        ),
        "Each image has a mask of its own.": partial(wrong_dropout, of=(0, 1, 0, 0)),
        "Each channel has a draw of its own.": partial(wrong_dropout, of=(1, 0, 0, 0)),
        "Draw from the generator that was given, and from no other.": (
            lambda x, rate, training, generator: wrong_dropout(x, rate, training, None)
        ),
        "In evaluation nothing is dropped and nothing is enlarged.": (
            lambda x, rate, training, generator: wrong_dropout(x, rate, True, generator)
        ),
    },
    hint="One number for each image and channel. Zero, or divided by 1 − rate.",
    observe=what_stays,
    trials=15,
)
def channel_dropout(x, rate, training, generator):
    """Whole channels go, the others are enlarged."""
    keep = torch.rand(*x.shape[:2], 1, 1, generator=generator) >= rate
    return x * keep / (1 - rate) if training else x


def draw_mixup(draw):
    B, K = draw.integer(1, 2 * draw.size), draw.integer(1, 2 + draw.size)
    dtype, (C, H, W) = draw.choice(torch.float32, torch.float64), draw_image(draw)
    order = torch.randperm(B, generator=draw.generator)
    share = draw.choice(0.0, 1.0, draw.uniform(), draw.uniform())
    return draw.numbers(B, C, H, W, dtype=dtype), draw.labels(B, K), order, share, K


def draw_image(draw):
    """Channels, height and width."""
    most = 1 + draw.size
    return draw.integer(1, most), draw.integer(1, most), draw.integer(1, 2)


@exercise(
    inputs=draw_mixup,
    mistakes={
        "An image keeps `share` of itself; 1 − share comes from order[n].": (
            lambda x, y, order, share, K: mixup.solution(x, y, order, 1 - share, K)
        ),
        "The labels are blended too, as the images are.": lambda x, y, order, share, K: (
            mixup.solution(x, y, order, share, K)[0],
            F.one_hot(y, K).to(x.dtype),
        ),
        "A class may be absent here: tell one_hot that there are K.": (
            lambda x, y, order, share, K: mixup.solution(x, y, order, share, y.max() + 1)
        ),
    },
    hint="Value 1: images, value 2: labels, as rows of K probabilities. Both are "
    "share · own + (1 − share) · that of order[n].",
)
def mixup(images, labels, order, share, K):
    """Blended images and labels."""
    q = torch.eye(K, dtype=images.dtype)[labels]  # (B, K)
    return tuple(v[order] + share * (v - v[order]) for v in (images, q))


def draw_batch_norm(draw):
    """Two values a channel or more; weights, statistics, mode, momentum and eps."""
    B, (C, H, W) = 1 + draw.integer(1, draw.size), draw_image(draw)
    weight, bias, mean = (draw.normal(C) for _ in range(3))
    var, momentum = draw.normal(C) ** 2, draw.choice(0.0, 1.0, draw.uniform())
    eps = draw.choice(draw.uniform(0.01, 0.5), 1e-5)
    x, training = 3 * draw.normal(B, C, H, W) + 1, draw.uniform() < 0.7
    return x, weight, bias, mean, var, training, momentum, eps


def outputs_and_gradients(answer, x, weight, bias, *others):
    """The result, whether what is remembered carries a graph, gradients through y."""
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    made = answer(*leaves, *others)
    if not isinstance(made, tuple | list):
        return made
    y, *remembered = made
    if not getattr(y, "requires_grad", False):
        raise ValueError("no gradient can flow through y: is x detached, or no_grad on?")
    weights = torch.arange(1.0, 1 + y.numel(), dtype=y.dtype).cos().view_as(y)
    loss = (weights * y).sum()
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    graph = any(getattr(v, "requires_grad", False) for v in remembered)
    return made, f"running statistics carry a graph: {graph}", gradients


def wrong_norm(
    *given,
    used=0,
    remembered=1,
    kept=Tensor.detach,
    root=lambda var, eps: (var + eps).sqrt(),
):
    """`batch_norm_images` with another correction of a variance, say."""
    x, weight, bias, mean, var, training, momentum, eps = given
    used_mean, used_var, axes = mean, var, (0, 2, 3)
    if training:
        used_mean, used_var = x.mean(axes), x.var(axes, correction=used)
        mean = (1 - momentum) * mean + momentum * kept(used_mean)
        new = x.var(axes, correction=remembered)
        var = (1 - momentum) * var + momentum * kept(new)
    scale = (weight / root(used_var, eps))[:, None, None]
    return (x - used_mean[:, None, None]) * scale + bias[:, None, None], mean, var


def in_mode(given, training):
    """The right answer, but in the given mode."""
    return batch_norm_images.solution(*given[:5], training, *given[6:])


@exercise(
    inputs=draw_batch_norm,
    mistakes={
        "In evaluation the running statistics are used, not the batch's.": (
            lambda *given: (in_mode(given, True)[0], *in_mode(given, given[5])[1:])
        ),
        "In evaluation the running statistics stay as they are.": (
            lambda *given: (in_mode(given, given[5])[0], *in_mode(given, True)[1:])
        ),
        "Normalise by the variance that is divided by all B · H · W.": (
            partial(wrong_norm, used=1)
        ),
        "Remember the unbiased variance: times n / (n − 1), n = B · H · W.": (
            partial(wrong_norm, remembered=0)
        ),
        "It is (1 − momentum) · old + momentum · new.": (
            lambda *given: batch_norm_images.solution(*given[:6], 1 - given[6], given[7])
        ),
        "ε stands inside the root, with the variance.": (
            partial(wrong_norm, root=lambda var, eps: var.sqrt() + eps)
        ),
        "detach() what is remembered, or memory grows with every step.": (
            partial(wrong_norm, kept=lambda v: v)
        ),
        "The output must carry a graph; only what is remembered must not.": (
            torch.no_grad()(lambda *given: in_mode(given, given[5]))
        ),
    },
    hint="In training the batch's statistics are used, in evaluation the running ones. "
    "Value 3: gradients, which flow through the batch's statistics too.",
    observe=outputs_and_gradients,
    pure=False,  # running statistics may be changed in place, as torch does it
)
def batch_norm_images(
    x, weight, bias, running_mean, running_var, training, momentum, eps
):
    """nn.BatchNorm2d, with the running statistics after the call."""
    mean, var = running_mean.clone(), running_var.clone()
    y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    return y, mean, var
