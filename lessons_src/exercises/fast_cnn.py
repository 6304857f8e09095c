"""Exercises of the lesson on a fast convolutional network."""

import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import is_ours


def _layers(answer, *sizes):
    """The layers' names, their parameters, and what they give once these are set, in
    training and then in evaluation. Layers may be grouped, or do nothing."""
    made = answer(*sizes)
    if not isinstance(made, nn.Sequential):
        return made
    generator = torch.Generator().manual_seed(0)
    for p in made.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    parameters = sum(p.numel() for p in made.parameters())
    x = torch.randn(2, sizes[0], 12, 12, generator=generator)
    z, evaluated = made(x), made.eval()(x)
    layers = [m for m in made.modules() if not isinstance(m, nn.Sequential | nn.Identity)]
    names = " ".join(type(layer).__name__ for layer in layers)
    trained = all(p.requires_grad for p in made.parameters())
    return names, parameters, z, evaluated, f"training changes all of them: {trained}"


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
    "value 3 is what it gives for two images of 12×12, value 4 the same in evaluation.",
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
        draw.numbers(c_out, c_in, k, k),
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


PATTERNS = torch.tensor(
    [
        [[-1, -1, -1], [2, 2, 2], [-1, -1, -1]],
        [[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]],
        [[2, -1, -1], [-1, 2, -1], [-1, -1, 2]],
        [[-1, -1, 2], [-1, 2, -1], [2, -1, -1]],
    ]
)


def _strokes(n, draw):
    """Noisy images (n, 1, 12, 12), each with one of four strokes somewhere, and labels."""
    images, labels = draw.normal(n, 1, 12, 12, scale=0.5).float(), draw.labels(n, 4)
    places = draw.labels(2 * n, 10).view(n, 2).tolist()
    for image, label, (top, left) in zip(images[:, 0], labels, places, strict=True):
        image[top : top + 3, left : left + 3] += PATTERNS[label]
    return images, labels


def _words(share):
    """A share in words: other words only where the difference is large."""
    if share >= 0.95:
        return "at least 95 of 100"
    return "hardly more than by guessing" if share < 0.4 else "some"


def _learned(answer, images, labels, new_images, new_labels):
    """How many of the images, and of new ones, the returned network has right.

    What the checker's own functions learn from these images is kept.
    """
    key = answer, images.sum().item()
    if key not in _kept:
        found = _judged(answer, images, labels, new_images, new_labels)
        if not is_ours(answer):
            return found
        _kept[key] = found
    return _kept[key]


_kept = {}


def _judged(answer, images, labels, new_images, new_labels):
    start = time.perf_counter(), time.process_time()
    with torch.random.fork_rng(devices=[]):  # the page's own random numbers go on
        torch.manual_seed(0)
        model = answer(images, labels)
    ends = time.perf_counter(), time.process_time()
    seconds = min(end - begin for begin, end in zip(start, ends, strict=True))
    if not isinstance(model, nn.Module):
        return model
    shares = []
    for x, y in ((images, labels), (new_images, new_labels)):
        with torch.no_grad():
            scores = model.eval()(x)
        if scores.shape != (len(x), 4):
            return f"scores of the shape {tuple(scores.shape)} for {len(x)} images"
        shares.append((scores.argmax(1) == y).double().mean().item())
    seen, new = map(_words, shares)
    took = "less" if seconds < 10 or is_ours(answer) else "more"
    return f"right: {seen} seen, {new} new; {took} than 10 seconds"


def _by_heart(images, labels):
    """A network without convolutions: it learns the images that it sees."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 256), nn.ReLU(), nn.Linear(256, 4))
    return _trained(model, images, labels, epochs=20)


def _trained(model, images, labels, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for index in torch.randperm(len(labels)).split(40):
            loss = F.cross_entropy(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def _detector():
    """Convolutions, and the largest value of each map."""
    layers, n_in = [], 1
    for n_out in (16, 32):
        layers += [nn.Conv2d(n_in, n_out, 3, bias=False), nn.BatchNorm2d(n_out)]
        layers.append(nn.ReLU())
        n_in = n_out
    return nn.Sequential(
        *layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(n_in, 4)
    )


@exercise(
    inputs=lambda draw: (*_strokes(800, draw), *_strokes(400, draw)),
    mistakes={
        "It learned the images by heart. A stroke may stand anywhere: use convolutions, "
        "and one number from each of the last maps.": _by_heart,
        "Nothing was learned. Does the optimiser hold the parameters of the network that "
        "you return, and does it take its steps?": lambda images, labels: _detector(),
    },
    hint="Return the trained network. It must have 95 of 100 right, of the images that it "
    "saw and of new ones, within ten seconds.",
    observe=_learned,
    trials=1,
    seconds=60.0,  # on a busy machine; ten are its own
    names=("images", "labels", "new_images", "new_labels"),
)
def learn(images, labels):
    """Four passes over the images in batches of 40, with Adam."""
    return _trained(_detector(), images, labels, epochs=4)
