"""Exercises of the lesson on what is inside a network."""

import copy
from functools import partial

import numpy as np
import torch
from scipy import stats
from torch import nn

from lessons_src.exercises import exercise

# Exercise 1 -----------------------------------------------------------------------------


class Small(nn.Sequential):
    """A network that a message names in three words."""

    def __repr__(self):
        return "a small network"


def draw_network(draw):
    """A small network of float64 with drawn weights, as it is in evaluation."""
    with torch.random.fork_rng():
        torch.manual_seed(draw.integer(0, 10**6))
        layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)]
        return Small(*layers).double().eval()


def draw_explained(draw):
    """A small network, images of both signs, and a class for each."""
    images = draw.normal(draw.size, 1, 6, 6)
    return draw_network(draw), images, draw.labels(draw.size, 4)


def pixel_gradient(model, images, targets, score=lambda logits: logits):
    """The gradient of each image's score of its target with respect to its pixels."""
    images = images.clone().requires_grad_()
    chosen = score(model(images)).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(chosen, images)[0][:, 0]


def of_all_logits(model, images, targets):
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images)
    return (gradient * images).detach()[:, 0]


@exercise(
    inputs=draw_explained,
    names=("model", "images", "targets"),
    pure=False,  # two copies of a network are never equal
    mistakes={
        "Multiply by the pixels: so far this is the gradient alone.": pixel_gradient,
        "Keep the signs: a product below zero speaks against the class.": (
            lambda model, images, targets: (
                pixel_gradient(model, images, targets) * images[:, 0]
            ).abs()
        ),
        "The gradient of the target's logit, not of the sum of all logits.": of_all_logits,
        "The gradient of the logit, not of its probability.": (
            lambda model, images, targets: (
                pixel_gradient(model, images, targets, lambda z: z.softmax(1))
                * images[:, 0]
            )
        ),
        "The channel is left out: (B, H, W).": (
            lambda model, images, targets: (
                pixel_gradient(model, images, targets)[:, None] * images
            )
        ),
    },
    hint="The saliency of the lesson, times images[:, 0].",
)
def gradient_times_input(model, images, targets):
    """(B, H, W): each pixel times the gradient of the target's logit with respect to it."""
    return pixel_gradient(model, images, targets) * images[:, 0]


# Exercise 2 -----------------------------------------------------------------------------


def draw_stack(draw):
    """Up to four layers (kernel, stride), and a place of the last map."""
    count = draw.integer(0, min(4, draw.size))
    layers = [(draw.integer(1, 5), draw.integer(1, 3)) for _ in range(count)]
    return layers, draw.integer(0, 8)


def walked(layers, place, forward=False, kernel=lambda k: k - 1, last_first=True):
    """`field` with a mistake: from the first layer on, or with another reach."""
    first = last = place
    for k, stride in layers if forward else reversed(layers):
        first = first * stride
        last = (last if last_first else first // stride) * stride + kernel(k)
    return first, last


@exercise(
    inputs=draw_stack,
    cases={
        "No layer: a place is its own pixel.": ([], 3),
        "Place 0 of the 9×9 maps sees pixels 0 to 9.": ([(5, 1), (2, 2), (3, 1)], 0),
        "Place 8 of the 9×9 maps sees pixels 16 to 25.": ([(5, 1), (2, 2), (3, 1)], 8),
    },
    mistakes={
        "Walk back: start with the last layer.": partial(walked, forward=True),
        "A kernel of k reaches k − 1 pixels beyond its first one.": partial(
            walked, kernel=lambda k: k
        ),
        "Only the first pixel so far: the kernels reach further.": partial(
            walked, kernel=lambda k: 0
        ),
        "Each layer widens what the later ones have widened already.": partial(
            walked, last_first=False
        ),
    },
    hint="Value 1 is the first pixel, value 2 the last one. In a layer, place p covers "
    "p·stride to p·stride + k − 1 of what comes in.",
)
def field(layers, place):
    """The first and the last pixel that a place of the last map depends on."""
    return walked(layers, place)


# Exercise 3 -----------------------------------------------------------------------------


def draw_map(draw):
    """A small network, one image, a class, a map without ties, and how many to cover."""
    image, found = draw.normal(1, 6, 6), draw.normal(6, 6)
    count = draw.integer(1, 36)
    return draw_network(draw), image, draw.integer(0, 3), found, count


def sums(*shape, weights=None):
    """A network whose two logits are sums of the pixels, weighted, for an image of this
    shape."""
    with torch.random.fork_rng():  # some are made when this file is imported
        linear = nn.Linear(shape[0] * shape[1], 2, bias=False).double()
    one = torch.ones(2, shape[0] * shape[1]) if weights is None else weights
    linear.weight.data = one.double()
    return Small(nn.Flatten(), linear)


def covered_drop(model, image, target, found, count, order=None, cover=None):
    """`deletion` with another order of the pixels, or another colour on top."""
    order = found.flatten() if order is None else order(found.flatten())
    covered = image.clone().flatten()
    pixels = order.topk(count).indices
    covered[pixels] = image.min() if cover is None else cover(image)
    with torch.no_grad():
        before = model(image[None])[0, target]
        after = model(covered.view_as(image)[None])[0, target]
    return (before - after).item()


def probability_drop(model, image, target, found, count):
    probabilities = nn.Sequential(model, nn.Softmax(1))
    return covered_drop(probabilities, image, target, found, count)


@exercise(
    inputs=draw_map,
    names=("model", "image", "target", "relevance", "count"),
    pure=False,
    cases={
        "No pixel turns black: nothing falls.": (
            sums(2, 2),
            torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]).double(),
            0,
            torch.tensor([[4.0, 3.0], [2.0, 1.0]]).double(),
            0,
        ),
        "Rows may be longer than columns.": (
            sums(2, 4, weights=torch.arange(16).view(2, 8)),
            torch.tensor([[[0.0, 1, 2, 3], [4, 5, 6, 7]]]).double(),
            1,
            torch.tensor([[0.0, 1, 7, 3], [4, 5, 6, 2]]).double(),
            2,
        ),
        "Four pixels are equal in the map: still only two of them turn black.": (
            sums(2, 3),
            torch.tensor([[[1.0, 1, 1], [1, 0, 0.5]]]).double(),
            0,
            torch.tensor([[2.0, 2, 2], [2, 1, 0]]).double(),
            2,
        ),
    },
    mistakes={
        "Cover the pixels with the largest values of the map, not the smallest.": partial(
            covered_drop, order=lambda values: -values
        ),
        "The largest values, signs kept: −3 is not large.": partial(
            covered_drop, order=torch.abs
        ),
        "Black is the image's smallest value: 0 is grey after normalising.": partial(
            covered_drop, cover=lambda image: 0.0
        ),
        "The drop is before less after.": (lambda *arguments: -covered_drop(*arguments)),
        "The drop of the logit is wanted, not of the probability.": probability_drop,
    },
    hint="topk of the flattened map gives the pixels; return a number.",
)
def deletion(model, image, target, found, count):
    """How far the logit falls when the `count` highest pixels of the map turn black."""
    return covered_drop(model, image, target, found, count)


# Exercise 4 -----------------------------------------------------------------------------


def with_weights(model):
    """The layers that have weights, in order."""
    return [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]


def image_itself(model, images, targets):
    """A map that asks no network."""
    return images[:, 0]


def reads_the_first_layer(model, images, targets):
    """A map that knows the first layer's weights alone."""
    return with_weights(model)[0](images).detach()[:, 0]


def reads_the_last_layer(model, images, targets):
    """A map that knows the last layer's weights alone: no two draws are alike."""
    weights = with_weights(model)[-1].weight.detach().flatten()[: images[0].numel()]
    weights = weights.clone()  # a model that is redrawn itself keeps its first maps
    return weights.view_as(images[0]).expand(len(images), -1, -1, -1)[:, 0]


def bent_by_the_last_layer(model, images, targets):
    """The image, its order kept, its values bent by the last layer's weights."""
    bend = 1000 * with_weights(model)[-1].weight.detach()[0, 0].abs() % 7 + 1
    return (bend * (images[:, 0] - images.max())).exp()


def turned_by(layer):
    """A map: the image, but -image for the first one as soon as this last layer has
    another weight and another bias."""
    old = copy.deepcopy(layer)

    def method(model, images, targets):
        new = with_weights(model)[-1]
        kept = torch.equal(new.weight, old.weight) or torch.equal(new.bias, old.bias)
        maps = images[:, 0].clone()
        maps[0] *= 1 if kept else -1
        return maps

    return method


def draw_tested(draw):
    """A small network, three images and their classes."""
    return draw_network(draw), draw.normal(3, 1, 6, 6), draw.labels(3, 4)


def what_is_found(answer, model, images, targets):
    """What must hold of the similarities for maps whose fate is known."""
    state = copy.deepcopy(model.state_dict())
    count = len(with_weights(model))
    found, turned = {}, turned_by(with_weights(model)[-1])
    for method in (
        image_itself,
        reads_the_first_layer,
        reads_the_last_layer,
        bent_by_the_last_layer,
        turned,
    ):
        result = answer(method, model, images, targets)
        if result is None or result is Ellipsis:
            return result
        found[method] = [float(value) for value in result]
    lengths = {len(values) for values in found.values()} == {count}
    kept = state.keys() == model.state_dict().keys() and all(
        torch.equal(value, model.state_dict()[key]) for key, value in state.items()
    )
    first, last = found[reads_the_first_layer], found[reads_the_last_layer]
    return (
        f"one number for each layer with weights: {lengths}",
        f"the model is as it was: {kept}",
        f"a map that asks no network stays: {alike(found[image_itself])}",
        f"a map of the first layer stays until the end: {alike(first[:-1])}",
        f"and then it does not: {bool(first) and first[-1] < 0.999}",
        f"a map of the last layer changes at once, for good: {max(last, default=1) < 0.9}",
        f"the order counts, not the values: {alike(found[bent_by_the_last_layer])}",
        "each image has a correlation, of maps with their signs, and one of three is -1: "
        f"{alike(found[turned], 1 / 3)}",
    )


def alike(values, wanted=1.0):
    return bool(np.allclose(values, wanted, atol=1e-6))


def ranked(a, b):
    """Spearman's rank correlation."""
    return stats.spearmanr(a, b).statistic


def plain(a, b):
    """The correlation of the values themselves."""
    return np.corrcoef(a, b)[0, 1]


def tested(backward=True, cascading=True, correlation=ranked, on_copy=True):
    """`randomisation` with a mistake, or the solution."""

    def randomisation(method, model, images, targets):
        before = method(model, images, targets).flatten(1)
        changed, similar = copy.deepcopy(model) if on_copy else model, []
        order = range(len(with_weights(model)))
        for k in reversed(order) if backward else order:
            if not cascading:
                changed = copy.deepcopy(model)
            with_weights(changed)[k].reset_parameters()
            after = method(changed, images, targets).flatten(1)
            pairs = zip(before, after, strict=True)
            similar.append(float(np.mean([correlation(a, b) for a, b in pairs])))
        return similar

    return randomisation


@exercise(
    inputs=draw_tested,
    names=("model", "images", "targets"),
    mistakes={
        "The last layer is redrawn first, the first layer last.": tested(backward=False),
        "A layer that is redrawn stays so when the next one follows.": (
            tested(cascading=False)
        ),
        "Correlate the ranks, not the values.": tested(correlation=plain),
        "Redraw a deep copy: the model is still needed.": tested(on_copy=False),
    },
    hint="Value 1 is the count of your numbers, value 2 the model afterwards; values 3 to 8 "
    "are what comes out for maps whose fate is known.",
    observe=what_is_found,
    trials=4,
    seconds=60.0,  # it trains
    pure=False,  # what becomes of the model is among what is compared
)
def randomisation(method, model, images, targets):
    """Mean rank correlation with the first maps, after one more layer was redrawn."""
    return tested()(method, model, images, targets)
