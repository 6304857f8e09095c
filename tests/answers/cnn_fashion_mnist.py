"""Answers to the exercises of the lesson on CNNs for Fashion-MNIST."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F


def one_by_one(p, se):
    n = 1
    while math.sqrt(p * (1 - p) / n) > se * (1 + 1e-12):
        n += 1
    return n


def bisected(p, se):
    low, high = 0, 1
    while p * (1 - p) / high > se * se * (1 + 1e-12):
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if p * (1 - p) / middle > se * se * (1 + 1e-12):
            low = middle
        else:
            high = middle
    return high


def by_fractions(p, se):
    p, se = Fraction(str(p)), Fraction(str(se))
    return math.ceil(p * (1 - p) / se**2)


def only_for_large_p(p, se):
    if p >= 0.5:
        return math.ceil(p * (1 - p) / se**2 - 1e-9)


def upper(counts):
    return (counts + counts.T).triu(1)


def of_both(counts, place=None):
    both = upper(counts)
    place = both.argmax().item() if place is None else place
    a, b = divmod(place, len(counts))
    return a, b, (both[a, b] / both.sum()).item()


def then(change):
    """The right answer, changed, with the counts at hand."""
    return lambda counts: change(*of_both(counts), counts)


def largest_cell(counts):
    """The largest count, and what lies on the other side of the diagonal."""
    off = counts - counts.diag().diag()
    a, b = sorted(divmod(off.argmax().item(), len(counts)))
    return a, b, ((off[a, b] + off[b, a]) / off.sum()).item()


def one_direction(counts):
    off = counts - counts.diag().diag()
    a, b = divmod(off.argmax().item(), len(counts))
    return a, b, (off[a, b] / off.sum()).item()


def one_direction_sorted(counts):
    a, b, share = one_direction(counts)
    return min(a, b), max(a, b), share


def above_only(counts):
    off = counts.triu(1)
    a, b = divmod(off.argmax().item(), len(counts))
    return a, b, (off[a, b] / off.sum()).item()


def with_the_diagonal(counts):
    both = (counts + counts.T).triu()
    a, b = divmod(both.argmax().item(), len(counts))
    return a, b, (both[a, b] / both.sum()).item()


def below(counts):
    both = (counts + counts.T).tril(-1)
    a, b = divmod(both.argmax().item(), len(counts))
    return a, b, (both[a, b] / both.sum()).item()


def by_rates(counts):
    """Shares of each class are compared in place of counts."""
    rates = counts / counts.sum(1, keepdim=True).clamp(min=1)
    a, b = divmod(upper(rates).argmax().item(), len(counts))
    return a, b, (upper(counts)[a, b] / upper(counts).sum()).item()


def least_confused(counts):
    both = upper(counts)
    places = [p for p in range(both.numel()) if divmod(p, len(both))[0] < p % len(both)]
    return of_both(counts, min(places, key=lambda p: both.flatten()[p].item()))


def ten_classes(counts):
    both = upper(counts)
    a, b = divmod(both.argmax().item(), 10)
    return a, b, (both.max() / both.sum()).item()


def whole_share(counts):
    a, b, _ = of_both(counts)
    return a, b, (upper(counts)[a, b] // upper(counts).sum()).item()


def only_first_class(counts):
    both = upper(counts)
    b = int(both[0].argmax())
    return 0, b, (both[0, b] / both.sum()).item()


def no_return_for_two(counts):
    if len(counts) > 2:
        return of_both(counts)


def confused_by_loops(counts):
    c = counts.tolist()
    best, total = (0, 0, -1), 0
    for a in range(len(c)):
        for b in range(a + 1, len(c)):
            both = c[a][b] + c[b][a]
            total += both
            if both > best[2]:
                best = a, b, both
    return best[0], best[1], best[2] / total


def confused_by_pairs(counts):
    mistakes = {
        (a, b): int(counts[a, b] + counts[b, a])
        for a, b in itertools.combinations(range(len(counts)), 2)
    }
    pair = max(mistakes, key=mistakes.get)
    return *pair, mistakes[pair] / sum(mistakes.values())


def confused_in_numpy(counts):
    c = np.array(counts, dtype=float)
    np.fill_diagonal(c, 0)
    a, b = np.unravel_index(np.argmax(np.triu(c + c.T)), c.shape)
    return a, b, (c[a, b] + c[b, a]) / c.sum()


def confused_by_a_list(counts):
    rows, columns = torch.triu_indices(len(counts), len(counts), 1)
    both = counts[rows, columns] + counts[columns, rows]
    share, place = (both / both.sum()).max(0)
    return [rows[place], columns[place], share]


def confused_below(counts):
    b, a = divmod((counts + counts.T).tril(-1).argmax().item(), len(counts))
    wrong = counts.sum() - counts.trace()
    return a, b, float(counts[a, b] + counts[b, a]) / float(wrong)


class Confused:
    def __call__(self, counts):
        c = counts.clone().fill_diagonal_(0)
        wrong = c.sum()
        c += c.T.clone()
        a, b = (c == c.max()).nonzero()[0].tolist()
        return a, b, c[a, b].double() / wrong


def mean_log(logits):
    return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))


def looks(log_p=mean_log, loss=F.nll_loss, right=None):
    """Loss and accuracy of the (N, K) that log_p gives."""

    def answer(logits, labels):
        z = log_p(logits)
        judged = z if right is None else right(logits)
        hit = (judged.argmax(1) == labels).double().mean()
        return loss(z, labels).item(), hit.item()

    return answer


def looks_after(change):
    return lambda logits, labels: change(*looks()(logits, labels), logits, labels)


def mean_of_losses(logits, labels):
    losses = [F.cross_entropy(look, labels).item() for look in logits]
    return sum(losses) / len(losses), looks()(logits, labels)[1]


def mean_of_accuracies(logits, labels):
    hits = [(look.argmax(1) == labels).double().mean().item() for look in logits]
    return looks()(logits, labels)[0], sum(hits) / len(hits)


def by_majority(logits, labels):
    votes = F.one_hot(logits.argmax(2), logits.shape[2]).sum(0)
    return looks()(logits, labels)[0], (votes.argmax(1) == labels).double().mean().item()


def softmax_twice(logits, labels):
    """cross_entropy takes logits, not probabilities."""
    p = logits.softmax(2).mean(0)
    hit = (p.argmax(1) == labels).double().mean().item()
    return F.cross_entropy(p, labels).item(), hit


def one_largest(logits):
    """A shift for all looks and images: rows far below it are lost."""
    z = logits.log_softmax(2)
    m = z.max()
    return (z - m).exp().mean(0).log() + m


def accuracy_only_if_several(logits, labels):
    if len(logits) > 1:
        return looks()(logits, labels)


def looks_in_numpy(logits, labels):
    z = logits.numpy().astype(float)
    z = z - np.logaddexp.reduce(z, axis=2, keepdims=True)
    z = np.logaddexp.reduce(z, axis=0) - np.log(len(z))
    y = labels.numpy()
    return -z[np.arange(len(y)), y].mean(), np.mean(z.argmax(1) == y)


def look_by_look(logits, labels):
    total = None
    for look in logits:
        z = look - look.logsumexp(1, keepdim=True)
        total = z if total is None else torch.logaddexp(total, z)
    z = total - math.log(logits.shape[0])
    loss = -z.gather(1, labels[:, None]).mean()
    return loss, (z.argmax(1) == labels).double().mean()


def looks_in_lists(logits, labels):
    loss, hits = 0.0, 0
    for n, label in enumerate(labels.tolist()):
        z = logits[:, n].double().log_softmax(1).T.tolist()  # K lists of M
        best = [max(row) for row in z]
        sums = [
            m + math.log(sum(math.exp(v - m) for v in row))
            for m, row in zip(best, z, strict=True)
        ]
        loss -= sums[label] - math.log(len(logits))
        hits += sums.index(max(sums)) == label
    return loss / len(labels), hits / len(labels)


def own_shift(logits):
    z = logits.log_softmax(-1)
    m = z.amax(0)
    return m + (z - m).exp().mean(0).log()


class Looks:
    def __call__(self, logits, labels):
        z = torch.logsumexp(F.log_softmax(logits, dim=2) - math.log(len(logits)), dim=0)
        picked = torch.einsum("nk,nk->n", z, F.one_hot(labels, z.shape[1]).to(z.dtype))
        right = z.max(1).indices.eq(labels)
        return [float(-picked.mean()), right.sum().item() / len(labels)]


def waves(k, dtype=torch.float64, half=0.5):
    """(k, k): cosines of 0 to k - 1 half waves, each of length 1."""
    c = torch.cos(
        math.pi * torch.arange(k)[:, None] * (torch.arange(k).double() + half) / k
    )
    return (c / c.norm(dim=1, keepdim=True)).to(dtype)


def maps_by(make=waves, order="uvyx", change=lambda maps, k: maps, before=lambda x: x):
    """A convolution with the patterns, with parts to be changed."""

    def answer(images, k):
        c = make(k).to(images.dtype)
        kernels = torch.einsum(f"uy,vx->{order}", c, c).reshape(k * k, 1, k, k)
        return change(F.conv2d(before(images), kernels), k)

    return answer


def of_other_length(scale):
    """Cosines multiplied by a number that may depend on k."""
    return lambda k: scale(k) * waves(k)


def without_norm(k):
    return torch.cos(math.pi * torch.arange(k)[:, None] * (torch.arange(k) + 0.5) / k)


def sines(k):
    s = torch.sin(math.pi * torch.arange(1, k + 1)[:, None] * (torch.arange(k) + 0.5) / k)
    return s.double() / s.double().norm(dim=1, keepdim=True)


def for_threes(images, k):
    return maps_by()(images, 3)


def returned_if_small(images, k):
    if k < 4:
        return maps_by()(images, k)


def maps_in_loops(images, k):
    B, _, H, W = images.shape
    c, h, w = waves(k), H - k + 1, W - k + 1
    out = torch.zeros(B, k * k, h, w, dtype=images.dtype)
    for u in range(k):
        for v in range(k):
            for y in range(k):
                for x in range(k):
                    part = images[:, 0, y : y + h, x : x + w]
                    out[:, u * k + v] += c[u, y] * c[v, x] * part
    return out


def maps_by_dctn(images, k):
    """SciPy's cosine transform of every window."""
    x = images.numpy()[:, 0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    found = scipy.fft.dctn(windows, axes=(3, 4), norm="ortho")  # (B, h, w, k, k)
    return found.reshape(*found.shape[:3], k * k).transpose(0, 3, 1, 2)


def maps_by_unfold(images, k):
    B, _, H, W = images.shape
    c = waves(k, images.dtype)
    columns = F.unfold(images, k)  # (B, k², places)
    return (torch.kron(c, c) @ columns).view(B, k * k, H - k + 1, W - k + 1)


def one_axis_then_the_other(images, k):
    c = waves(k, images.dtype)
    B, _, H, W = images.shape
    down = F.conv2d(images, c[:, None, :, None])  # (B, k, H - k + 1, W)
    both = F.conv2d(down.flatten(0, 1)[:, None], c[:, None, None, :])
    return both.view(B, k * k, H - k + 1, W - k + 1)


def with_known_lengths(k):
    """The lengths in closed form: √k for the constant, √(k/2) for the others."""
    c = without_norm(k).double() * (2 / k) ** 0.5
    c[0] /= 2**0.5
    return c


class Maps:
    def __call__(self, images, k):
        layer = torch.nn.Conv2d(1, k * k, k, bias=False, dtype=images.dtype)
        c = waves(k, images.dtype)
        with torch.no_grad():
            layer.weight.copy_((c[:, None, :, None] * c[:, None]).view(k * k, 1, k, k))
            return layer(images)


WRONG = {
    "images_needed": [
        lambda p, se: p * (1 - p) / se**2,
        lambda p, se: math.floor(p * (1 - p) / se**2),
        lambda p, se: int(p * (1 - p) / se**2),
        lambda p, se: round(p * (1 - p) / se**2),
        lambda p, se: int(p * (1 - p) / se**2) + 1,
        lambda p, se: math.ceil(p * (1 - p) / se**2),  # 901 of the example's 900
        lambda p, se: math.ceil(p * (1 - p) / se**2) + 1,
        lambda p, se: math.ceil(p * (1 - p) / se**2 - 0.5),
        lambda p, se: math.ceil(p * (1 - p) / se - 1e-9),
        lambda p, se: math.ceil(p / se**2 - 1e-9),
        lambda p, se: math.ceil((1 - p) / se**2 - 1e-9),
        lambda p, se: math.ceil(p**2 / se**2 - 1e-9),
        lambda p, se: math.ceil(math.sqrt(p * (1 - p)) / se - 1e-9),
        lambda p, se: math.ceil(math.sqrt(p * (1 - p) / se) - 1e-9),
        lambda p, se: math.ceil(0.25 / se**2 - 1e-9),
        lambda p, se: math.ceil(0.09 / se**2 - 1e-9),
        lambda p, se: math.ceil(p * (1 - p) / 0.01**2 - 1e-9),
        lambda p, se: math.ceil(p * (1 + p) / se**2 - 1e-9),
        lambda p, se: math.ceil(1.96**2 * p * (1 - p) / se**2 - 1e-9),
        lambda p, se: math.ceil(p * (1 - p) / se**2 - 1e-9) + 1,
        lambda p, se: math.ceil(1 / se**2 - 1e-9),
        lambda p, se: math.ceil(p * (1 - p) / (2 * se) ** 2 - 1e-9),
        lambda p, se: max(30, math.ceil(p * (1 - p) / se**2 - 1e-9)),
        lambda p, se: min(10_000, math.ceil(p * (1 - p) / se**2 - 1e-9)),
        lambda p, se: 10 * math.ceil(p * (1 - p) / se**2 / 10 - 1e-9),
        lambda p, se: [math.ceil(p * (1 - p) / se**2 - 1e-9)],
        lambda p, se: 900,
        only_for_large_p,
    ],
    "most_confused": [
        then(lambda a, b, share, counts: (b, a, share)),
        then(lambda a, b, share, counts: (a, b, share / 2)),
        then(lambda a, b, share, counts: (a, b, 2 * share)),
        then(lambda a, b, share, counts: (a, b, 100 * share)),
        then(lambda a, b, share, counts: (a, b, 1 - share)),
        then(lambda a, b, share, counts: (a + 1, b + 1, share)),
        then(lambda a, b, share, counts: (a, b)),
        then(lambda a, b, share, counts: ((a, b), share)),
        then(lambda a, b, share, counts: (a, b, (counts[a, b] + counts[b, a]).item())),
        then(
            lambda a, b, share, counts: (
                a,
                b,
                (upper(counts).max() / counts.sum()).item(),
            )
        ),
        then(lambda a, b, share, counts: (a, b, upper(counts).max() / counts[a].sum())),
        then(
            lambda a, b, share, counts: (
                a,
                b,
                upper(counts).max() / (counts[a].sum() + counts[b].sum()),
            )
        ),
        then(
            lambda a, b, share, counts: (
                a,
                b,
                counts[a, b] / (counts.sum() - counts.trace()),
            )
        ),
        then(
            lambda a, b, share, counts: (a, b, upper(counts).max() / counts.triu(1).sum())
        ),
        then(lambda a, b, share, counts: (a, b, round(share, 2))),
        largest_cell,
        one_direction,
        one_direction_sorted,
        above_only,
        with_the_diagonal,
        below,
        by_rates,
        least_confused,
        ten_classes,
        whole_share,
        only_first_class,
        no_return_for_two,
        lambda counts: upper(counts).argmax().item(),
    ],
    "looks_together": [
        looks(lambda z: z.softmax(2).mean(0).log()),
        looks(lambda z: (z.softmax(2).mean(0) + 1e-12).log()),
        looks(lambda z: z.softmax(2).mean(0).clamp(min=1e-30).log()),
        looks(lambda z: z.clamp(-100, 100).softmax(2).mean(0).log()),
        looks(lambda z: (z.exp() / z.exp().sum(2, keepdim=True)).mean(0).log()),
        looks(lambda z: z.mean(0).log_softmax(1)),  # the mean of the logits
        looks(lambda z: z.log_softmax(2).mean(0)),
        looks(lambda z: z.log_softmax(2).logsumexp(0)),
        looks(lambda z: z.log_softmax(2).logsumexp(0) + math.log(len(z))),
        looks(lambda z: z.log_softmax(2).logsumexp(0) - math.log(z.shape[2])),
        looks(lambda z: z.log_softmax(2).logsumexp(0) - len(z)),
        looks(lambda z: z.log_softmax(2).logsumexp(0) / len(z)),
        looks(lambda z: z.logsumexp(0) - math.log(len(z))),
        looks(lambda z: z.logsumexp(0).log_softmax(1)),
        looks(lambda z: z.log_softmax(2).amax(0)),
        looks(lambda z: z.log_softmax(0).logsumexp(0) - math.log(len(z))),
        looks(lambda z: z.log_softmax(1).logsumexp(0) - math.log(len(z))),
        looks(lambda z: z[0].log_softmax(1)),
        looks(lambda z: mean_log(z[:2])),
        looks(lambda z: mean_log(z[-1:])),
        looks(one_largest),
        looks(loss=lambda z, y: F.nll_loss(z, y, reduction="sum")),
        looks(loss=lambda z, y: -F.nll_loss(z, y)),
        looks(loss=lambda z, y: F.nll_loss(z, y) / math.log(2)),
        looks(loss=lambda z, y: F.nll_loss(z.exp(), y)),
        looks(loss=lambda z, y: -z.mean()),
        looks(right=lambda z: z.mean(0)),
        looks(right=lambda z: z.log_softmax(2).mean(0)),
        looks(right=lambda z: z[0]),
        looks(right=lambda z: z.amax(0)),
        looks(right=lambda z: -mean_log(z)),
        looks_after(lambda loss, hit, z, y: (hit, loss)),
        looks_after(lambda loss, hit, z, y: loss),
        looks_after(lambda loss, hit, z, y: (loss, 100 * hit)),
        looks_after(lambda loss, hit, z, y: (loss, 1 - hit)),
        looks_after(lambda loss, hit, z, y: (loss, hit * len(y))),
        mean_of_losses,
        mean_of_accuracies,
        by_majority,
        softmax_twice,
        accuracy_only_if_several,
    ],
    "cosine_maps": [
        maps_by(without_norm),
        maps_by(of_other_length(lambda k: k**0.5)),
        maps_by(of_other_length(lambda k: 2)),
        maps_by(lambda k: waves(k, half=0.0)),
        maps_by(lambda k: waves(k, half=1.0)),
        maps_by(lambda k: waves(k).flip(0)),
        maps_by(lambda k: waves(k).flip(1)),  # odd cosines change their sign
        maps_by(lambda k: waves(k).T),
        maps_by(sines),
        maps_by(order="vuyx"),
        maps_by(order="uvxy"),
        maps_by(change=lambda maps, k: maps[:, 1:]),
        maps_by(change=lambda maps, k: maps.abs()),
        maps_by(change=lambda maps, k: maps.relu()),
        maps_by(change=lambda maps, k: maps**2),
        maps_by(change=lambda maps, k: torch.cat([maps, -maps], 1)),
        maps_by(change=lambda maps, k: maps.unflatten(1, (k, k))),
        maps_by(change=lambda maps, k: maps / k),
        maps_by(change=lambda maps, k: maps[:, :, ::k, ::k]),
        maps_by(change=lambda maps, k: maps.mT),
        maps_by(before=lambda x: F.pad(x, (1, 1, 1, 1))),
        maps_by(before=lambda x: x - x.mean((2, 3), keepdim=True)),
        maps_by(before=lambda x: x.mT),
        for_threes,
        returned_if_small,
    ],
}

RIGHT = {
    "images_needed": [
        lambda p, se: math.ceil(p * (1 - p) / se**2 - 1e-9),
        lambda p, se: -int(-(p * (1 - p) / se**2 - 1e-9) // 1),
        lambda p, se: np.ceil(p * (1 - p) / se**2 - 1e-9).astype(int),
        lambda p, se: math.ceil((p - p * p) / (se * se) - 1e-9),
        lambda p, se: math.ceil(round(p * (1 - p) / se**2, 6)),
        lambda p, se: torch.tensor(math.ceil(p * (1 - p) / se**2 - 1e-9)),
        lambda p, se: math.ceil((math.sqrt(p * (1 - p)) / se) ** 2 - 1e-9),
        one_by_one,
        bisected,
        by_fractions,
    ],
    "most_confused": [
        of_both,
        lambda counts: of_both(counts.double()),
        confused_by_loops,
        confused_by_pairs,
        confused_in_numpy,
        confused_by_a_list,
        confused_below,
        Confused(),
    ],
    "looks_together": [
        looks(),
        looks(own_shift),
        looks(loss=F.cross_entropy),  # its own log-softmax changes nothing
        looks(right=lambda z: z.double().softmax(2).mean(0)),
        looks_after(lambda loss, hit, z, y: torch.tensor([loss, hit])),
        looks_in_numpy,
        look_by_look,
        looks_in_lists,
        Looks(),
    ],
    "cosine_maps": [
        maps_by(),
        maps_by(with_known_lengths),
        maps_in_loops,
        maps_by_dctn,
        maps_by_unfold,
        one_axis_then_the_other,
        functools.partial(maps_by()),
        Maps(),
    ],
}
