"""Answers to the exercises of the lesson on CNNs for Fashion-MNIST."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F


def shares(answers, labels, K):
    """Right answers of each label over its images."""
    right = labels[answers == labels].bincount(minlength=K)
    return right / labels.bincount(minlength=K)


def by_class(change):
    """A function of logits, labels, answers and K."""
    return lambda logits, labels: change(
        logits, labels, logits.argmax(1), logits.shape[1]
    )


def classes_in_the_labels(logits, labels):
    return shares(logits.argmax(1), labels, int(labels.max()) + 1)


def present_only(logits, labels):
    found = [
        (logits.argmax(1)[labels == k] == k).double().mean() for k in labels.unique()
    ]
    return torch.stack(found)


def one_for_the_absent(logits, labels):
    s = shares(logits.argmax(1), labels, logits.shape[1])
    return torch.where(s.isnan(), torch.ones_like(s), s)


def unpredicted_are_nan(logits, labels):
    answers, K = logits.argmax(1), logits.shape[1]
    s = shares(answers, labels, K)
    s[answers.bincount(minlength=K) == 0] = float("nan")
    return s


def whole_division(logits, labels):
    answers, K = logits.argmax(1), logits.shape[1]
    right = labels[answers == labels].bincount(minlength=K)
    return (right // labels.bincount(minlength=K).clamp(min=1)).double()


def accuracy_in_loops(logits, labels):
    K = logits.shape[1]
    right, seen = [0] * K, [0] * K
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        seen[label] += 1
        right[label] += row.index(max(row)) == label
    return [a / b if b else math.nan for a, b in zip(right, seen, strict=True)]


def accuracy_in_numpy(logits, labels):
    z, y = logits.numpy(), labels.numpy()
    found = np.full(z.shape[1], np.nan)
    for k in np.unique(y):
        found[k] = np.mean(z[y == k].argmax(1) == k)
    return found


def from_the_confusion(logits, labels):
    K = logits.shape[1]
    places = labels * K + logits.argmax(1)
    counts = places.bincount(minlength=K * K).view(K, K)
    return counts.diag() / counts.sum(1)


def from_one_hot(logits, labels):
    hot = F.one_hot(labels, logits.shape[1]).double()  # (N, K)
    right = (logits.max(1).indices == labels).double()
    return torch.einsum("n,nk->k", right, hot) / hot.sum(0)


def by_index_add(logits, labels):
    right = torch.zeros(logits.shape[1]).double()
    seen = right.clone()
    hit = (logits.argmax(1) == labels).double()
    return right.index_add_(0, labels, hit) / seen.index_add_(
        0, labels, torch.ones_like(hit)
    )


class ByClass:
    def __call__(self, logits, labels):
        answers = logits.topk(1).indices.flatten()
        return torch.stack(
            [
                (answers[labels == k] == k).double().mean()  # of nothing: nan
                for k in range(logits.shape[1])
            ]
        )


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


def flip_by(chosen=lambda draws, share: draws < share, mirror=lambda x: x.flip(-1)):
    """torch.where, with parts to be changed."""

    def answer(x, draws, share):
        return torch.where(chosen(draws, share)[:, None, None, None], mirror(x), x)

    return answer


right_flip = flip_by()


def along_the_width(x, draws, share):
    return torch.where(draws < share, x.flip(-1), x)


def in_the_images_given(x, draws, share):
    """The images given must not change."""
    x[draws < share] = x[draws < share].flip(-1)
    return x


def through_a_view(x, draws, share):
    """A view of the images given changes them, too."""
    y = x.view(x.shape)
    for i, draw in enumerate(draws):
        if draw < share:
            y[i] = y[i].flip(-1)
    return y


def all_or_none(x, draws, share):
    return x.flip(-1) if draws[0] < share else x


def own_draws(x, draws, share):
    return right_flip(x, torch.rand(len(x)), share)


def the_first_so_many(x, draws, share):
    n = round(len(x) * share)
    return torch.cat([x[:n].flip(-1), x[n:]])


def grouped(x, draws, share):
    """The images come back in another order."""
    chosen = draws < share
    return torch.cat([x[chosen].flip(-1), x[~chosen]])


def others_are_black(x, draws, share):
    return x.flip(-1) * (draws < share)[:, None, None, None]


def only_the_chosen(x, draws, share):
    return x[draws < share].flip(-1)


def first_channel(x, draws, share):
    y = x.clone()
    y[draws < share, 0] = y[draws < share, 0].flip(-1)
    return y


def flip_returned_if_any(x, draws, share):
    if (draws < share).any():
        return right_flip(x, draws, share)


def on_a_copy(x, draws, share):
    y = x.clone()
    y[draws < share] = y[draws < share].flip(3)
    return y


def image_by_image(x, draws, share):
    return torch.stack(
        [
            image.flip(2) if draw < share else image
            for image, draw in zip(x, draws, strict=True)
        ]
    )


def flip_in_numpy(x, draws, share):
    y = np.array(x)
    for i in np.flatnonzero(draws.numpy() < share):
        y[i] = y[i, :, :, ::-1].copy()
    return y


def by_gather(x, draws, share):
    W = x.shape[-1]
    straight = torch.arange(W).expand(x.shape)
    chosen = (draws < share).view(-1, 1, 1, 1)
    return x.gather(3, torch.where(chosen, W - 1 - straight, straight))


def by_arithmetic(x, draws, share):
    m = (draws < share).to(x.dtype).reshape(-1, 1, 1, 1)
    return m * torch.fliplr(x.movedim(3, 1)).movedim(1, 3) + (1 - m) * x


def by_einsum(x, draws, share):
    mirror = torch.eye(x.shape[-1], dtype=x.dtype)
    both = torch.stack([mirror, mirror.flip(0)])  # (2, W, W)
    return torch.einsum("bchw,bwv->bchv", x, both[(draws < share).long()])


class Flip:
    def __call__(self, x, draws, share):
        y = torch.empty_like(x)
        for i in range(len(x)):
            y[i] = (
                x[i, ..., torch.arange(x.shape[3] - 1, -1, -1)]
                if draws[i] < share
                else x[i]
            )
        return y


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


WRONG = {
    "class_accuracy": [
        by_class(lambda z, y, a, K: shares(a, y, K).nan_to_num()),
        by_class(lambda z, y, a, K: shares(y, a, K)),  # precision
        by_class(lambda z, y, a, K: (a == y).double().mean().expand(K)),
        by_class(lambda z, y, a, K: (a == y).double().mean()),
        by_class(lambda z, y, a, K: shares(a, y, K).nanmean()),
        by_class(lambda z, y, a, K: shares(a, y, K)[:-1]),
        by_class(lambda z, y, a, K: shares(a, y, K)[:, None]),
        by_class(lambda z, y, a, K: 100 * shares(a, y, K)),
        by_class(lambda z, y, a, K: 1 - shares(a, y, K)),
        by_class(lambda z, y, a, K: shares(a, y, 10)[:10]),
        by_class(lambda z, y, a, K: shares(z.argmin(1), y, K)),
        by_class(lambda z, y, a, K: shares(z.abs().argmax(1), y, K)),
        by_class(lambda z, y, a, K: shares(z.argmax(0)[: len(y)], y, K)),
        by_class(lambda z, y, a, K: y[a == y].bincount(minlength=K) / len(y)),
        by_class(lambda z, y, a, K: y[a == y].bincount(minlength=K)),
        by_class(lambda z, y, a, K: y[a == y].bincount(minlength=K) / y.bincount().max()),
        by_class(lambda z, y, a, K: a.bincount(minlength=K) / y.bincount(minlength=K)),
        by_class(
            lambda z, y, a, K: (
                y[a == y].bincount(minlength=K) / y.bincount(minlength=K).clamp(min=1)
            )
        ),
        by_class(
            lambda z, y, a, K: (
                y[a == y].bincount(minlength=K) / (y.bincount(minlength=K) + 1e-6)
            )
        ),
        by_class(lambda z, y, a, K: y[a == y].bincount() / y.bincount()),
        by_class(
            lambda z, y, a, K: torch.stack(
                [
                    (a[y == k] == k).double().mean() if k in y else torch.tensor(-1.0)
                    for k in range(K)
                ]
            )
        ),
        by_class(lambda z, y, a, K: [sum(a[y == k] == k) / sum(y == k) for k in [0]]),
        by_class(lambda z, y, a, K: (shares(a, y, K).nan_to_num() >= 0.5).double()),
        classes_in_the_labels,
        present_only,
        one_for_the_absent,
        unpredicted_are_nan,
        whole_division,
    ],
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
    "flip_some": [
        flip_by(chosen=lambda draws, share: draws <= share),  # a draw equal to the share
        flip_by(chosen=lambda draws, share: draws > share),
        flip_by(chosen=lambda draws, share: draws >= share),
        flip_by(chosen=lambda draws, share: draws < 1 - share),
        flip_by(chosen=lambda draws, share: draws < 0.5),
        flip_by(chosen=lambda draws, share: draws.round() < share),
        flip_by(chosen=lambda draws, share: (draws < share).any().expand(len(draws))),
        flip_by(chosen=lambda draws, share: (draws < share).flip(0)),
        flip_by(chosen=lambda draws, share: draws.mean().expand(len(draws)) < share),
        flip_by(chosen=lambda draws, share: draws.argsort() < share * len(draws)),
        flip_by(mirror=lambda x: x.flip(-2)),
        flip_by(mirror=lambda x: x.flip(-2, -1)),
        flip_by(mirror=lambda x: x.flip(1)),
        flip_by(mirror=lambda x: x.flip(0)),
        flip_by(mirror=lambda x: x.flip(1, -1)),
        flip_by(mirror=lambda x: x.roll(1, -1)),
        flip_by(mirror=lambda x: -x),
        flip_by(mirror=lambda x: 1 - x),
        lambda x, draws, share: x,
        lambda x, draws, share: x.flip(-1),
        lambda x, draws, share: right_flip(x, draws, share)[:, :1],
        lambda x, draws, share: right_flip(x, draws, share).flatten(1),
        along_the_width,
        in_the_images_given,
        through_a_view,
        all_or_none,
        own_draws,
        the_first_so_many,
        grouped,
        others_are_black,
        only_the_chosen,
        first_channel,
        flip_returned_if_any,
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
}

RIGHT = {
    "class_accuracy": [
        by_class(lambda z, y, a, K: shares(a, y, K)),
        by_class(lambda z, y, a, K: shares(a, y, K).double()),
        by_class(lambda z, y, a, K: shares(a, y, K).tolist()),
        by_class(lambda z, y, a, K: shares(z.softmax(1).max(1)[1], y, K)),
        accuracy_in_loops,
        accuracy_in_numpy,
        from_the_confusion,
        from_one_hot,
        by_index_add,
        ByClass(),
    ],
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
    "flip_some": [
        right_flip,
        flip_by(mirror=lambda x: x.flip(dims=(3,))),
        flip_by(mirror=lambda x: x[..., torch.arange(x.shape[-1]).flip(0)]),
        functools.partial(right_flip),
        on_a_copy,
        image_by_image,
        flip_in_numpy,
        by_gather,
        by_arithmetic,
        by_einsum,
        Flip(),
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
}
