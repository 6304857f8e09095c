"""Answers to the exercises of the lesson on data and baselines."""

import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F

WHOLE = {"correction": 0}  # divide by M


def correct(accuracies, sizes):
    return sum(a * n for a, n in zip(accuracies, sizes, strict=True))


def first_batch_only(accuracies, sizes):
    for accuracy, size in zip(accuracies, sizes, strict=True):
        return accuracy * size / size


def running(accuracies, sizes):
    """The accuracy so far, corrected by each batch."""
    seen, accuracy = 0, 0.0
    for a, n in zip(accuracies, sizes, strict=True):
        seen += n
        accuracy += (a - accuracy) * n / seen
    return accuracy


def example_by_example(accuracies, sizes):
    hits = []
    for a, n in zip(accuracies, sizes, strict=True):
        right = round(a * n)
        hits += [1] * right + [0] * (n - right)
    return statistics.fmean(hits)


def numbers_of(batches):
    return torch.cat([batch.flatten() for batch in batches]).double()


def deviation(x):
    return x.std(**WHOLE)


def of_all(*statistics):
    """An answer that puts all numbers into one row, and takes these of it."""

    def answer(batches):
        x = numbers_of(batches)
        return [statistic(x) for statistic in statistics]

    return answer


def sums(batches, kind=torch.Tensor.double):
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        batch = kind(batch)
        count += batch.numel()
        total += batch.sum()
        squares += (batch**2).sum()
    return count, total, squares


def in_float32(batches):
    """Two large sums cancel."""
    count, total, squares = sums(batches, torch.Tensor.float)
    return total / count, (squares / count - (total / count) ** 2).clamp(min=0).sqrt()


def unguarded(batches):
    """Rounding leaves less than 0 under the root."""
    count, total, squares = sums(batches)
    return total / count, (squares / count - (total / count) ** 2).sqrt()


def with_math(batches):
    count, total, squares = (float(v) for v in sums(batches))
    return total / count, math.sqrt(squares / count - (total / count) ** 2)


def counts_images(batches):
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        count += len(batch)
        total += batch.double().sum()
        squares += (batch.double() ** 2).sum()
    return total / count, (squares / count - (total / count) ** 2).clamp(min=0).sqrt()


def mean_of_means(batches):
    batches = list(batches)
    mean = torch.stack([batch.mean() for batch in batches]).mean()
    return mean, deviation(numbers_of(batches))


def within_batches(batches):
    """Without the spread of the batches' means."""
    batches = list(batches)
    count, total, _ = sums(batches)
    variance = sum(b.double().var(**WHOLE) * b.numel() for b in batches) / count
    return total / count, variance.sqrt()


def from_the_first_mean(batches):
    x = numbers_of(batches)
    return x.mean(), ((x - batches[0].double().mean()) ** 2).mean().sqrt()


def looks_twice(batches):
    """Each batch once, says the statement."""
    count, total, _ = sums(batches)
    squares = sum(((b.double() - total / count) ** 2).sum() for b in batches)
    return total / count, (squares / count).sqrt()


def combined(batches):
    """Batch by batch, as Chan, Golub and LeVeque combine two parts."""
    count, mean, spread = 0, 0.0, 0.0
    for batch in batches:
        batch = batch.double()
        n, own = batch.numel(), batch.mean()
        spread += ((batch - own) ** 2).sum() + (own - mean) ** 2 * count * n / (count + n)
        mean += (own - mean) * n / (count + n)
        count += n
    return mean, (spread / count).sqrt()


def shifted(batches):
    """Sums of the differences from the first number of all."""
    first = batches[0].flatten()[0].double()
    count, total, squares = sums(batches, lambda batch: batch.double() - first)
    variance = squares / count - (total / count) ** 2
    return float(first + total / count), max(float(variance), 0.0) ** 0.5


def in_numpy(batches):
    numbers = np.concatenate([batch.numpy().ravel() for batch in batches])
    return numbers.mean(dtype=np.float64), numbers.std(dtype=np.float64)


def exactly(batches):
    """By Python's own sums, which do not round in between."""
    numbers = [v for batch in batches for v in batch.flatten().tolist()]
    return statistics.fmean(numbers), statistics.pstdev(numbers)


def scores(x, train_x):
    return x @ train_x.T - (train_x**2).sum(1) / 2


def in_a_loop(x, train_x, train_y):
    """No Python loop, says the statement."""
    rows = [((train_x - row) ** 2).sum(1).argmin() for row in x]
    return train_y[torch.stack(rows)]


def in_one_large_tensor(x, train_x, train_y):
    """(B, N, D): the statement forbids it."""
    return train_y[((x[:, None] - train_x) ** 2).sum(2).argmin(1)]


def nearest_class_mean(x, train_x, train_y):
    means = torch.stack([train_x[train_y == k].mean(0) for k in train_y.unique()])
    return train_y.unique()[torch.cdist(x, means).argmin(1)]


def all_lengths(x, train_x, train_y):
    squares = (x**2).sum(1, keepdim=True) - 2 * x @ train_x.T + (train_x**2).sum(1)
    return train_y[squares.argmin(1)]


def neighbour_in_numpy(x, train_x, train_y):
    x, train_x = x.numpy(), train_x.numpy()
    best = (x @ train_x.T - np.square(train_x).sum(1) / 2).argmax(1)
    return train_y.numpy()[best]


def means_of(images, labels, classes=None):
    x = images.flatten(1).float() / 255
    classes = labels.max().item() + 1 if classes is None else classes
    return torch.stack([x[labels == k].mean(0) for k in range(classes)])


def baseline(images, labels, new_images, *, factor=0.5, white=255, new_white=255):
    W = means_of(images, labels) * 255 / white
    b = -factor * (W**2).sum(1)
    return W, b, (new_images.flatten(1).float() / new_white @ W.T + b).argmax(1)


def with_ten_classes(images, labels, new_images):
    W = means_of(images, labels, 10)
    b = -(W**2).sum(1) / 2
    return W, b, (new_images.flatten(1).float() / 255 @ W.T + b).argmax(1)


def one_class_short(images, labels, new_images):
    W = means_of(images, labels, labels.max().item())
    b = -(W**2).sum(1) / 2
    return W, b, (new_images.flatten(1).float() / 255 @ W.T + b).argmax(1)


def last_of_each_class(images, labels, new_images):
    """`W[labels] += x` keeps one image of each class."""
    x = images.flatten(1).float() / 255
    W = torch.zeros(labels.max() + 1, x.shape[1])
    W[labels] += x
    W /= torch.bincount(labels)[:, None]
    b = -(W**2).sum(1) / 2
    return W, b, (new_images.flatten(1).float() / 255 @ W.T + b).argmax(1)


def medians(images, labels, new_images):
    x = images.flatten(1).float() / 255
    W = torch.stack([x[labels == k].median(0).values for k in labels.unique()])
    b = -(W**2).sum(1) / 2
    return W, b, (new_images.flatten(1).float() / 255 @ W.T + b).argmax(1)


def class_sums(images, labels, new_images):
    W = F.one_hot(labels).T.float() @ (images.flatten(1).float() / 255)
    b = -(W**2).sum(1) / 2
    return W, b, (new_images.flatten(1).float() / 255 @ W.T + b).argmax(1)


def over_all_examples(images, labels, new_images):
    W = F.one_hot(labels).T.float() @ (images.flatten(1).float() / 255) / len(labels)
    b = -(W**2).sum(1) / 2
    return W, b, (new_images.flatten(1).float() / 255 @ W.T + b).argmax(1)


def only_digits(images, labels, new_images):
    return baseline(images.view(-1, 1, 28, 28), labels, new_images.view(-1, 1, 28, 28))


def without_bias(images, labels, new_images):
    W, b, _ = baseline(images, labels, new_images)
    return W, b, (new_images.flatten(1).float() / 255 @ W.T).argmax(1)


def by_one_hot(images, labels, new_images):
    x, new_x = (v.flatten(1).double() / 255 for v in (images, new_images))
    one_hot = F.one_hot(labels).double()  # (N, K)
    W = (one_hot / one_hot.sum(0)).T @ x
    b = -torch.einsum("kd,kd->k", W, W) / 2
    return W, b, torch.addmm(b, new_x, W.T).max(1).indices


def by_index_add(images, labels, new_images):
    x = images.flatten(1).float() / 255
    classes = len(labels.unique())
    W = torch.zeros(classes, x.shape[1]).index_add_(0, labels, x)
    W /= labels.bincount().unsqueeze(1)
    new_x = new_images.flatten(1).float() / 255
    return W, -0.5 * W.square().sum(1), torch.cdist(new_x, W).argmin(1)


def baseline_in_numpy(images, labels, new_images):
    x, new_x = (v.numpy().reshape(len(v), -1) / 255 for v in (images, new_images))
    W = np.array([x[labels.numpy() == k].mean(axis=0) for k in range(max(labels) + 1)])
    b = -(W * W).sum(axis=1) / 2
    return [W, b, np.argmax(new_x @ W.T + b, axis=1)]


def class_by_class(images, labels, new_images):
    new_x = new_images.flatten(1).double() / 255
    W, b, marks = [], [], []
    for k in labels.unique():
        mean = images[labels == k].double().mean(0).flatten() / 255
        W.append(mean)
        b.append(-mean @ mean / 2)
        marks.append(new_x @ mean + b[-1])
    return torch.stack(W), torch.stack(b), torch.stack(marks).argmax(0)


def kept(change):
    """The right answer, with one of its values changed."""

    def answer(images, labels, new_images):
        return change(*baseline(images, labels, new_images))

    return answer


WRONG = {
    "total_accuracy": [
        lambda accuracies, sizes: sum(accuracies) / len(accuracies),
        lambda accuracies, sizes: correct(accuracies, sizes),
        lambda accuracies, sizes: correct(accuracies, sizes) / len(sizes),
        lambda accuracies, sizes: sum(accuracies) / sum(sizes),
        lambda accuracies, sizes: correct(accuracies, sizes) // sum(sizes),
        lambda accuracies, sizes: 100 * correct(accuracies, sizes) / sum(sizes),
        lambda accuracies, sizes: 1 - correct(accuracies, sizes) / sum(sizes),
        lambda accuracies, sizes: (
            correct(accuracies, sizes) / (sizes[0] * len(sizes))  # all are full
        ),
        lambda accuracies, sizes: correct(accuracies[:-1], sizes[:-1]) / sum(sizes[:-1]),
        lambda accuracies, sizes: correct(accuracies, sorted(sizes)) / sum(sizes),
        lambda accuracies, sizes: max(accuracies),
        lambda accuracies, sizes: statistics.median(accuracies),
        lambda accuracies, sizes: (
            sum(int(a * n) for a, n in zip(accuracies, sizes, strict=True)) / sum(sizes)
        ),  # int(0.29 * 100) is 28
        lambda accuracies, sizes: (
            torch.tensor(accuracies) @ torch.tensor(sizes) / sum(sizes)  # raises: dtypes
        ),
        lambda accuracies, sizes: (
            torch.tensor(accuracies) * torch.tensor(sizes) / sum(sizes)
        ),
        lambda accuracies, sizes: accuracies * sizes / sum(sizes),
        lambda accuracies, sizes: math.prod(accuracies) ** (1 / len(accuracies)),
        lambda accuracies, sizes: (
            round(sum(accuracies) / len(accuracies) * sum(sizes)) / sum(sizes)
        ),
        lambda accuracies, sizes: statistics.fmean(
            accuracies, [max(1, n) for n in sizes]
        ),
        lambda accuracies, sizes: correct(accuracies[:10], sizes[:10]) / sum(sizes[:10]),
        lambda accuracies, sizes: round(correct(accuracies, sizes) / sum(sizes), 4),
        first_batch_only,
    ],
    "mean_and_std": [
        lambda batches: torch.tensor([[b.mean(), b.std(**WHOLE)] for b in batches]).mean(
            0
        ),
        of_all(torch.mean, torch.std),
        of_all(torch.mean, lambda x: x.var(**WHOLE)),
        of_all(deviation, torch.mean),
        of_all(torch.mean, lambda x: (x**2).mean().sqrt()),
        of_all(torch.mean, lambda x: (x - x.mean()).abs().mean()),
        of_all(torch.median, deviation),
        of_all(torch.mean),
        of_all(lambda x: torch.tensor(0.1307), lambda x: torch.tensor(0.3081)),
        lambda batches: of_all(torch.mean, deviation)(batches[:1]),
        lambda batches: of_all(torch.mean, deviation)(batches[-1:]),
        lambda batches: of_all(torch.mean, deviation)([torch.stack(batches)]),
        lambda batches: of_all(torch.mean, deviation)([torch.cat(batches).mean(0)]),
        lambda batches: of_all(torch.mean, deviation)([torch.cat(batches).half()]),
        lambda batches: of_all(torch.mean, deviation)([b[b != 0] for b in batches]),
        of_all(lambda x: x[:100].mean(), lambda x: deviation(x[:100])),
        of_all(lambda x: x[:1000].mean(), lambda x: deviation(x[:1000])),
        lambda batches: of_all(torch.mean, deviation)(batches[:10]),
        mean_of_means,
        in_float32,
        unguarded,
        with_math,
        counts_images,
        within_batches,
        looks_twice,
        from_the_first_mean,
    ],
    "nearest_neighbour": [
        lambda x, train_x, train_y: scores(x, train_x).argmax(1),
        lambda x, train_x, train_y: train_y[scores(x, train_x).argmin(1)],
        lambda x, train_x, train_y: train_y[scores(x, train_x).argmax(0)],
        lambda x, train_x, train_y: train_y[(x @ train_x.T).argmax(1)],
        lambda x, train_x, train_y: train_y[
            (x @ train_x.T - (train_x**2).sum(1)).argmax(1)
        ],
        lambda x, train_x, train_y: train_y[
            (x @ train_x.T + (train_x**2).sum(1) / 2).argmax(1)
        ],
        lambda x, train_x, train_y: train_y[
            (x @ train_x.T - (x**2).sum(1, keepdim=True) / 2).argmax(1)
        ],
        lambda x, train_x, train_y: train_y[
            (F.normalize(x) @ F.normalize(train_x).T).argmax(1)
        ],
        lambda x, train_x, train_y: train_y[torch.cdist(x, train_x, p=1).argmin(1)],
        lambda x, train_x, train_y: train_y[torch.cdist(x, train_x).argmin(1) // 10],
        lambda x, train_x, train_y: train_y[torch.cdist(x[:1], train_x).argmin(1)],
        lambda x, train_x, train_y: train_y[
            torch.cdist(x, train_x).argmin(1, keepdim=True)
        ],
        lambda x, train_x, train_y: train_y.unique()[torch.cdist(x, train_x).argmin(1)],
        lambda x, train_x, train_y: train_y[torch.cdist(x, train_x).argmin(1)].float(),
        lambda x, train_x, train_y: F.one_hot(train_y[torch.cdist(x, train_x).argmin(1)]),
        lambda x, train_x, train_y: train_x[torch.cdist(x, train_x).argmin(1)],
        lambda x, train_x, train_y: (
            train_y[torch.cdist(x, train_x).topk(3).indices].mode(1).values
        ),
        lambda x, train_x, train_y: train_y[torch.cdist(x / 255, train_x).argmin(1)],
        nearest_class_mean,
        in_a_loop,
        in_one_large_tensor,
    ],
    "nearest_mean": [
        lambda *given: baseline(*given, factor=1),
        lambda *given: baseline(*given, factor=-0.5),
        lambda *given: baseline(*given, factor=0),
        lambda *given: baseline(*given, white=1, new_white=1),
        lambda *given: baseline(*given, white=256, new_white=256),
        lambda *given: baseline(*given, new_white=1),
        lambda *given: baseline(*given, white=given[0].max()),
        lambda images, labels, new_images: baseline(images, labels, images),
        lambda images, labels, new_images: baseline(images, labels + 1, new_images),
        kept(lambda W, b, predicted: (b, W, predicted)),
        kept(lambda W, b, predicted: (W.T, b, predicted)),
        kept(lambda W, b, predicted: (W, b[:, None], predicted)),
        kept(lambda W, b, predicted: (W, b, predicted[:, None])),
        kept(lambda W, b, predicted: (W, b, predicted.float())),
        kept(lambda W, b, predicted: (W, b, F.one_hot(predicted, len(b)))),
        kept(lambda W, b, predicted: (F.normalize(W), b, predicted)),
        kept(lambda W, b, predicted: (W, b)),
        kept(lambda W, b, predicted: predicted),
        with_ten_classes,
        one_class_short,
        last_of_each_class,
        medians,
        class_sums,
        over_all_examples,
        only_digits,
        without_bias,
    ],
}

RIGHT = {
    "total_accuracy": [
        lambda accuracies, sizes: np.average(accuracies, weights=sizes),
        lambda accuracies, sizes: np.dot(accuracies, sizes) / np.sum(sizes),
        lambda accuracies, sizes: statistics.fmean(accuracies, sizes),
        lambda accuracies, sizes: (
            (torch.tensor(accuracies) * torch.tensor(sizes)).sum() / sum(sizes)
        ),
        lambda accuracies, sizes: (
            torch.tensor(accuracies, dtype=torch.float64)
            @ torch.tensor(sizes, dtype=torch.float64)
            / sum(sizes)
        ),
        lambda accuracies, sizes: sum(
            accuracies[k] * (sizes[k] / sum(sizes)) for k in range(len(sizes))
        ),
        lambda accuracies, sizes: (
            sum(round(a * n) for a, n in zip(accuracies, sizes, strict=True)) / sum(sizes)
        ),  # how many were correct is a whole number
        lambda accuracies, sizes: (
            sum(map(float.__mul__, accuracies, map(float, sizes))) / sum(sizes)
        ),
        running,
        example_by_example,
    ],
    "mean_and_std": [
        of_all(torch.mean, deviation),
        of_all(torch.mean, lambda x: x.var(unbiased=False).sqrt()),
        lambda batches: torch.std_mean(numbers_of(batches), correction=0)[::-1],
        lambda batches: torch.stack(of_all(torch.mean, deviation)(batches)),
        lambda batches: [v.item() for v in of_all(torch.mean, deviation)(batches)],
        combined,
        shifted,
        in_numpy,
        exactly,
    ],
    "nearest_neighbour": [
        lambda x, train_x, train_y: train_y[torch.cdist(x, train_x).argmin(1)],
        lambda x, train_x, train_y: train_y[torch.cdist(x, train_x).min(1).indices],
        lambda x, train_x, train_y: train_y[
            torch.addmm(-train_x.square().sum(1) / 2, x, train_x.T).argmax(dim=-1)
        ],
        lambda x, train_x, train_y: train_y[
            (2 * torch.einsum("bd,nd->bn", x, train_x) - train_x.norm(dim=1) ** 2).argmax(
                1
            )
        ],
        lambda x, train_x, train_y: train_y.gather(0, scores(x, train_x).argmax(1)),
        lambda x, train_x, train_y: train_y[scores(x, train_x).topk(1).indices[:, 0]],
        lambda x, train_x, train_y: train_y[
            scores(x.double(), train_x.double()).argmax(1)
        ].tolist(),
        lambda x, train_x, train_y: train_y.int().take(scores(x, train_x).argmax(1)),
        lambda x, train_x, train_y: train_y[scores(x, train_x).T.argmax(0)],
        all_lengths,
        neighbour_in_numpy,
    ],
    "nearest_mean": [
        baseline,
        by_one_hot,
        by_index_add,
        baseline_in_numpy,
        class_by_class,
        kept(lambda W, b, predicted: [W, b, predicted.tolist()]),
        kept(lambda W, b, predicted: (W.double(), b.double(), predicted.int())),
    ],
}
