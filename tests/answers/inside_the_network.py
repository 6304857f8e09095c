"""Answers to the exercises of the lesson that looks inside a network."""

import copy
import functools

import numpy as np
import torch
from scipy import stats
from torch import nn


def gradient(model, images, targets, score=lambda z: z):
    """The gradient (B, 1, H, W) of each image's score of its target."""
    pixels = images.clone().requires_grad_()
    chosen = score(model(pixels)).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(chosen, pixels)[0]


def mean_of_the_batch(model, images, targets):
    pixels = images.clone().requires_grad_()
    model(pixels).gather(1, targets[:, None]).mean().backward()
    return (pixels.grad * images)[:, 0]


def all_logits(model, images, targets):
    pixels = images.clone().requires_grad_()
    model(pixels).sum().backward()
    return (pixels.grad * images)[:, 0]


def own_answers(model, images, targets):
    return (gradient(model, images, model(images).argmax(1)) * images)[:, 0]


def columns_not_pairs(model, images, targets):
    pixels = images.clone().requires_grad_()
    model(pixels)[:, targets].sum().backward()
    return (pixels.grad * images)[:, 0]


def negative_loss(model, images, targets):
    pixels = images.clone().requires_grad_()
    nn.functional.cross_entropy(model(pixels), targets, reduction="sum").backward()
    return (-pixels.grad * images)[:, 0]


def no_clone(model, images, targets):
    """Raises: nothing asks for the pixels' gradient."""
    chosen = model(images.detach()).gather(1, targets[:, None]).sum()
    return (torch.autograd.grad(chosen, images)[0] * images)[:, 0]


def by_backward(model, images, targets):
    pixels = images.detach().clone().requires_grad_()
    model(pixels)[torch.arange(len(targets)), targets].sum().backward()
    return (pixels.grad * pixels.detach()).squeeze(1)


def one_by_one(model, images, targets):
    maps = []
    for image, target in zip(images, targets, strict=True):
        pixels = image[None].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(pixels)[0, target], pixels)
        maps.append((slope * image)[0, 0])
    return torch.stack(maps)


def by_one_hot(model, images, targets):
    pixels = images.clone().requires_grad_()
    logits = model(pixels)
    hot = nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
    (slope,) = torch.autograd.grad(logits, pixels, hot, create_graph=True)
    return torch.einsum("bchw,bchw->bhw", slope, images)


def by_jacobian(model, images, targets):
    def chosen(pixels):
        return model(pixels).gather(1, targets[:, None]).sum()

    return torch.autograd.functional.jacobian(chosen, images)[:, 0] * images[:, 0]


class TimesInput:
    def __call__(self, model, images, targets):
        return list((gradient(model, images, targets) * images).sum(1))


def walked(first=0, last=0, layers=lambda kernels: kernels[::-1], end=-1):
    """The right walk, with one of its parts changed."""

    def field(kernels, place):
        a = b = place
        for kernel, stride in layers(kernels):
            a = a * stride + first
            b = b * stride + kernel + end
        return a, b + last

    return field


def size_of_the_field(layers, place):
    first, last = walked()(layers, place)
    return first, last - first + 1


def stride_late(layers, place):
    first = last = place
    for kernel, stride in reversed(layers):
        first, last = first * stride, (last + kernel - 1) * stride
    return first, last


def stride_one(layers, place):
    return place, place + sum(kernel - 1 for kernel, _ in layers)


def only_strides(layers, place):
    first = place
    for _, stride in layers:
        first *= stride
    return first, first + sum(kernel - 1 for kernel, _ in layers)


def first_stride_for_all(layers, place):
    first = last = place
    for kernel, _ in reversed(layers):
        first, last = first * layers[0][1], last * layers[0][1] + kernel - 1
    return first, last


def centred(layers, place):
    first, last = walked()(layers, place)
    half = (last - first) // 2
    return first - half, first + half


def forgotten(layers, place):
    if place > 0:
        return walked()(layers, place)


def by_jumps(layers, place):
    jump, size = 1, 1
    for kernel, stride in layers:
        size += (kernel - 1) * jump
        jump *= stride
    return place * jump, place * jump + size - 1


def by_recursion(layers, place):
    if not layers:
        return place, place
    *before, (kernel, stride) = layers
    first, _ = by_recursion(before, place * stride)
    _, last = by_recursion(before, place * stride + kernel - 1)
    return first, last


def by_sets(layers, place):
    seen = {place}
    for kernel, stride in layers[::-1]:
        seen = {stride * at + k for at in seen for k in range(kernel)} or seen
    return [min(seen), max(seen)]


def by_reduce(layers, place):
    def before(ends, layer):
        return ends[0] * layer[1], ends[1] * layer[1] + layer[0] - 1

    return functools.reduce(before, reversed(layers), (place, place))


def in_tensors(layers, place):
    ends = torch.tensor([place, place])
    for kernel, stride in reversed(layers):
        ends = ends * stride + torch.tensor([0, kernel - 1])
    return ends


def in_numpy(layers, place):
    ends = np.array([place, place])
    for kernel, stride in reversed(layers):
        ends = ends * stride + [0, kernel - 1]
    return ends[0], ends[1]


@torch.no_grad()
def fall(model, image, target, pixels, black=None, score=lambda z: z):
    """How far the score falls when these pixels, counted along the rows, turn black."""
    covered = image.flatten().clone()
    covered[pixels] = image.min() if black is None else black
    before, after = score(model(torch.stack([image, covered.view_as(image)])))
    return (before[target] - after[target]).item()


def highest(map, count):
    return map.flatten().topk(count).indices


def deleted(pixels=highest, **other):
    return lambda model, image, target, map, count: fall(
        model, image, target, pixels(map, count), **other
    )


def by_threshold(map, count):
    """More than `count` where some are equal."""
    if count == 0:
        return torch.zeros(map.numel(), dtype=torch.bool)
    return map.flatten() >= map.flatten().sort(descending=True).values[count - 1]


def above_threshold(map, count):
    """One less."""
    return map.flatten() > map.flatten().topk(max(count, 1)).values[-1]


def as_square(map, count):
    """Row and column by the height instead of the width."""
    k = highest(map, count)
    return k // map.shape[0] * map.shape[1] + k % map.shape[0]


def only_after(model, image, target, map, count):
    covered = image.flatten().clone()
    covered[highest(map, count)] = image.min()
    return model(covered.view_as(image)[None])[0, target].item()


def own_answer(model, image, target, map, count):
    return fall(model, image, model(image[None])[0].argmax(), highest(map, count))


def relative(model, image, target, map, count):
    return deleted()(model, image, target, map, count) / model(image[None])[0, target]


def too_late(model, image, target, map, count):
    """The image is covered before it is seen."""
    image = image.clone()
    image.view(-1)[highest(map, count)] = image.min().item()
    before = model(image[None])[0, target]
    return (before - model(image[None])[0, target]).item()


def keeps_only(model, image, target, map, count):
    """All others turn black."""
    covered = torch.full_like(image, image.min().item()).flatten()
    covered[highest(map, count)] = image.flatten()[highest(map, count)]
    z = model(torch.stack([image, covered.view_as(image)]))[:, target]
    return (z[0] - z[1]).item()


def of_the_lowest_value(model, image, target, map, count):
    """The black of the map instead of the image."""
    return fall(model, image, target, highest(map, count), black=map.min())


def one_at_a_time(model, image, target, map, count):
    """A sum of single falls."""
    falls = [fall(model, image, target, [k]) for k in highest(map, count)]
    return sum(falls, 0.0)


def by_scatter(model, image, target, map, count):
    flat = image.reshape(-1)
    covered = flat.scatter(0, highest(map, count), image.min().item())
    before = model(image.unsqueeze(0))[0][target]
    return before - model(covered.reshape(1, *image.shape))[0][target]


def by_sorted_places(model, image, target, map, count):
    H, W = map.shape
    places = [(row, column) for row in range(H) for column in range(W)]
    places.sort(key=lambda place: map[place].item(), reverse=True)
    covered = image.clone()
    for row, column in places[:count]:
        covered[0, row, column] = image.min()
    with torch.no_grad():
        return float(model(image[None])[0, target] - model(covered[None])[0, target])


def by_ranks(model, image, target, map, count):
    ranks = map.flatten().argsort(descending=True).argsort().view(map.shape)
    covered = torch.where(ranks < count, image.min(), image)
    with torch.no_grad():
        return (model(image[None]) - model(covered[None])).squeeze(0)[target].numpy()


def by_numpy(model, image, target, map, count):
    covered = image.numpy().copy()
    order = np.argsort(-map.numpy(), axis=None)[:count]
    covered.reshape(-1)[order] = covered.min()
    z = model(torch.stack([image, torch.from_numpy(covered)])).detach().numpy()
    return z[0, target] - z[1, target]


def by_mask(model, image, target, map, count):
    mask = torch.zeros(map.numel(), dtype=torch.bool)
    mask[highest(map, count)] = True
    covered = image.masked_fill(mask.view(image.shape), image.min().item())
    return model(image[None])[:, target].sub(model(covered[None])[:, target]).item()


def rank_correlation(a, b):
    return stats.spearmanr(a, b).statistic


def has_weights(layer):
    return isinstance(layer, nn.Conv2d | nn.Linear)


def redrawn(
    correlation=rank_correlation,
    kinds=has_weights,
    order=reversed,
    draw=lambda layer: layer.reset_parameters(),
    copied=copy.deepcopy,
    mean=np.mean,
    fresh=False,
    previous=False,
):
    """The right answer, with one of its parts changed."""

    def randomisation(method, model, images, targets):
        changed, similar = copied(model), []
        before = method(model, images, targets).flatten(1)
        for k, layer in order(list(enumerate(changed))):
            if kinds(layer):
                if fresh:
                    changed = copied(model)
                    layer = changed[k]
                draw(layer)
                after = method(changed, images, targets).flatten(1)
                pairs = zip(before, after, strict=True)
                similar.append(mean([correlation(a, b) for a, b in pairs]))
                before = after if previous else before
        return similar

    return randomisation


def changed_result(change, **settings):
    return lambda *args: change(redrawn(**settings)(*args))


def zeroed(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def weight_only(layer):
    nn.init.kaiming_uniform_(layer.weight)


def bias_only(layer):
    nn.init.normal_(layer.bias)


def shuffled_noise(layer):
    """A little noise is not a new draw."""
    with torch.no_grad():
        for p in layer.parameters():
            p += 1e-6 * torch.randn_like(p)


def all_at_once(method, model, images, targets):
    """Every layer is new from the beginning."""
    changed = copy.deepcopy(model)
    for layer in filter(has_weights, changed):
        layer.reset_parameters()
    before = method(model, images, targets).flatten(1)
    after = method(changed, images, targets).flatten(1)
    value = np.mean([rank_correlation(a, b) for a, b in zip(before, after, strict=True)])
    return [value] * sum(map(has_weights, model))


def old_model(method, model, images, targets):
    """The maps are those of the old model again."""
    before = method(model, images, targets).flatten(1)
    pairs = list(zip(before, method(model, images, targets).flatten(1), strict=True))
    value = np.mean([rank_correlation(a, b) for a, b in pairs])
    return [value for layer in model if has_weights(layer)]


def pooled(method, model, images, targets):
    """One correlation for all images together."""
    changed, similar = copy.deepcopy(model), []
    before = method(model, images, targets).flatten()
    for layer in reversed(changed):
        if has_weights(layer):
            layer.reset_parameters()
            after = method(changed, images, targets).flatten()
            similar.append(rank_correlation(before, after))
    return similar


def first_image(method, model, images, targets):
    return redrawn()(method, model, images[:1], targets[:1])


def ranks_by_hand(a, b):
    ranks = [stats.rankdata(np.asarray(values.detach())) for values in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


def new_layer(layer):
    """Other weights of other sizes are weights drawn anew, too."""
    nn.init.xavier_normal_(layer.weight)
    nn.init.uniform_(layer.bias, -0.1, 0.1)


def put_back(method, model, images, targets):
    """Redraws the model itself, and loads the old weights at the end."""
    kept = copy.deepcopy(model.state_dict())
    first, similar = method(model, images, targets).flatten(1), []
    try:
        for layer in list(model)[::-1]:
            if hasattr(layer, "weight"):
                layer.reset_parameters()
                now = method(model, images, targets).flatten(1)
                values = [rank_correlation(a, b) for a, b in zip(first, now, strict=True)]
                similar.append(sum(values) / len(values))
    finally:
        model.load_state_dict(kept)
    return similar


def copies_with_more(method, model, images, targets):
    """A copy of its own for each number of layers."""
    places = [k for k, layer in enumerate(model) if has_weights(layer)][::-1]
    before, similar = method(model, images, targets), []
    for count in range(1, len(places) + 1):
        changed = copy.deepcopy(model)
        for k in places[:count]:
            changed[k].reset_parameters()
        after = method(changed, images, targets)
        values = [
            rank_correlation(a.ravel(), b.ravel())
            for a, b in zip(before.numpy(), after.numpy(), strict=True)
        ]
        similar.append(torch.tensor(values).mean())
    return torch.stack(similar)


def from_the_top(**settings):
    return redrawn(order=lambda layers: layers, **settings)


WRONG = {
    "gradient_times_input": [
        lambda m, x, t: gradient(m, x, t)[:, 0],
        lambda m, x, t: gradient(m, x, t) * x,
        lambda m, x, t: gradient(m, x, t)[:, 0] * x,  # (B, B, H, W)
        lambda m, x, t: (gradient(m, x, t) * x)[:, 0].abs(),
        lambda m, x, t: (gradient(m, x, t).abs() * x)[:, 0],
        lambda m, x, t: (gradient(m, x, t) * x.abs())[:, 0],
        lambda m, x, t: (gradient(m, x, t) * (x - x.min()))[:, 0],
        lambda m, x, t: (gradient(m, x, t).relu() * x)[:, 0],
        lambda m, x, t: (gradient(m, x, t).sign() * x)[:, 0],
        lambda m, x, t: (gradient(m, x, t, lambda z: z.softmax(1)) * x)[:, 0],
        lambda m, x, t: (gradient(m, x, t, lambda z: z.log_softmax(1)) * x)[:, 0],
        lambda m, x, t: (gradient(m, x, t) * x).squeeze(),  # B = 1
        lambda m, x, t: (gradient(m, x, t[:1].expand(len(t))) * x)[:, 0],
        lambda m, x, t: (gradient(m, x, t) * x[:1])[:, 0],
        lambda m, x, t: (gradient(m, x, t) * x)[:1, 0],
        lambda m, x, t: (gradient(m, x, t) * x)[:, 0].sum(0),
        lambda m, x, t: (gradient(m, x, t) * x)[:, 0].mT,
        lambda m, x, t: (gradient(m, x, t) + x)[:, 0],
        mean_of_the_batch,
        all_logits,
        own_answers,
        columns_not_pairs,
        negative_loss,
        no_clone,
    ],
    "field": [
        walked(end=0),
        walked(end=-2),
        walked(last=1),
        walked(first=1),
        walked(layers=lambda layers: layers),
        walked(layers=lambda layers: layers[-1:]),
        walked(layers=lambda layers: layers[:1]),
        walked(layers=lambda layers: layers[:0:-1]),
        walked(layers=lambda layers: [(s, k) for k, s in layers[::-1]]),
        walked(layers=lambda layers: [(3, s) for _, s in layers[::-1]]),
        lambda layers, place: walked()(layers, place)[::-1],
        lambda layers, place: walked()(layers, place)[1],
        lambda layers, place: walked()(layers, 0),
        lambda layers, place: walked()(layers, place + 1),
        lambda layers, place: range(*walked()(layers, place)),
        size_of_the_field,
        stride_late,
        stride_one,
        only_strides,
        first_stride_for_all,
        centred,
        forgotten,
    ],
    "deletion": [
        deleted(lambda map, count: map.flatten().topk(count, largest=False).indices),
        deleted(lambda map, count: highest(map.abs(), count)),
        deleted(lambda map, count: highest(map, count + 1)),
        deleted(lambda map, count: highest(map, count)[:-1]),
        deleted(lambda map, count: highest(map, 1)),
        deleted(lambda map, count: map.flatten().argsort()[-count:]),  # count = 0
        deleted(lambda map, count: map.flatten().argsort()[:count]),
        deleted(lambda map, count: highest(map.mT, count)),
        deleted(lambda map, count: torch.arange(count)),
        deleted(lambda map, count: map.topk(min(count, map.shape[1])).indices.flatten()),
        deleted(by_threshold),
        deleted(above_threshold),
        deleted(as_square),
        deleted(black=0.0),
        deleted(black=-0.4242),  # MNIST's own black
        deleted(score=lambda z: z.softmax(1)),
        deleted(score=lambda z: z.log_softmax(1)),
        deleted(score=lambda z: -z),
        lambda model, image, target, map, count: fall(
            model, image, target, highest(image[0], count)
        ),
        lambda *args: abs(deleted()(*args)),
        lambda *args: max(deleted()(*args), 0.0),
        lambda model, image, target, map, count: fall(
            model, image, slice(None), highest(map, count), score=lambda z: z.sum(1, True)
        ),
        only_after,
        own_answer,
        relative,
        too_late,
        keeps_only,
        of_the_lowest_value,
        one_at_a_time,
    ],
    "randomisation": [
        redrawn(fresh=True),
        from_the_top(),
        redrawn(copied=lambda model: model),
        redrawn(copied=copy.copy),
        redrawn(copied=lambda model: nn.Sequential(*model)),
        redrawn(previous=True),
        redrawn(correlation=lambda a, b: np.corrcoef(a, b)[0, 1]),
        redrawn(correlation=lambda a, b: stats.spearmanr(a, b).pvalue),
        redrawn(correlation=lambda a, b: rank_correlation(a.abs(), b.abs())),
        redrawn(correlation=lambda a, b: abs(rank_correlation(a, b))),
        redrawn(correlation=lambda a, b: (a * b).sum().item()),
        redrawn(mean=sum),
        redrawn(mean=max),
        redrawn(kinds=lambda layer: isinstance(layer, nn.Linear)),
        redrawn(kinds=lambda layer: isinstance(layer, nn.Conv2d)),
        redrawn(kinds=lambda layer: True),  # raises, at a ReLU
        redrawn(draw=lambda layer: None),
        redrawn(draw=zeroed),
        redrawn(draw=weight_only),
        redrawn(draw=bias_only),
        redrawn(draw=shuffled_noise),
        changed_result(lambda values: values[::-1]),
        changed_result(lambda values: [1.0, *values]),
        changed_result(lambda values: values[:-1]),
        changed_result(lambda values: np.mean(values)),
        changed_result(lambda values: [1 - value for value in values]),
        all_at_once,
        old_model,
        pooled,
        first_image,
    ],
}

RIGHT = {
    "gradient_times_input": [
        lambda m, x, t: (gradient(m, x, t) * x)[:, 0],
        lambda m, x, t: gradient(m, x, t)[:, 0] * x[:, 0],
        lambda m, x, t: (gradient(m, x, t) * x).flatten(0, 1).numpy(),
        lambda m, x, t: (gradient(m, x, t) * x).squeeze(1).double(),
        functools.partial(
            lambda score, m, x, t: (gradient(m, x, t, score) * x).sum(1), lambda z: z
        ),
        by_backward,
        one_by_one,
        by_one_hot,
        by_jacobian,
        TimesInput(),
    ],
    "field": [
        walked(),
        lambda layers, place: tuple(map(float, walked()(layers, place))),
        lambda layers, place: walked()(tuple(layers), torch.tensor(place)),
        by_jumps,
        by_recursion,
        by_sets,
        by_reduce,
        in_tensors,
        in_numpy,
    ],
    "deletion": [
        deleted(),
        deleted(lambda map, count: map.flatten().argsort(descending=True)[:count]),
        deleted(lambda map, count: map.flatten().argsort()[map.numel() - count :]),
        lambda *args: torch.tensor(deleted()(*args)),
        lambda *args: np.float32(deleted()(*args)),
        by_scatter,
        by_sorted_places,
        by_ranks,
        by_numpy,
        by_mask,
    ],
    "randomisation": [
        redrawn(),
        redrawn(correlation=ranks_by_hand),
        redrawn(draw=new_layer),
        redrawn(kinds=lambda layer: len(list(layer.parameters())) > 0),
        changed_result(np.array),
        changed_result(tuple),
        changed_result(lambda values: [torch.tensor(value) for value in values]),
        put_back,
        copies_with_more,
    ],
}
