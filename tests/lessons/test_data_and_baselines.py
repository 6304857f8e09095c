"""The lesson on data and baselines: its boxed equations, and its functions against
torch."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, definitions
from torch.utils.data import DataLoader, TensorDataset

from lessons_src import train

LESSON = "data_and_baselines"


@pytest.fixture(scope="module")
def lesson():
    names = (
        "idx_header",
        "write_idx",
        "pixel_moments",
        "class_means",
        "one_image",
        "loop",
        "product",
        "batches",
    )
    return SimpleNamespace(**definitions(LESSON, *names))


@pytest.fixture(scope="module")
def solutions():
    names = ("total_accuracy", "mean_and_std", "nearest_neighbour", "nearest_mean")
    return SimpleNamespace(**definitions(LESSON, *names, tag="solution"))


def some_bytes(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator).byte()


# Boxed equations


def test_eq_pixel_moments(lesson):
    """Mean and standard deviation from the 256 counts are those over all pixels, in
    float64."""
    dark = some_bytes(20, 1, 28, 28) // 5
    extremes = torch.tensor([0, 255, 255, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    black = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    for images in (dark, extremes, black, ~black):
        x = images.double() / 255
        expected = (x.mean().item(), x.std(correction=0).item())
        assert lesson.pixel_moments(images) == pytest.approx(
            expected, rel=1e-12, abs=1e-12
        )


def test_eq_normalise():
    """(x - m) / s has mean (μ - m) / s and standard deviation σ / s: 0 and 1 for m =
    μ, s = σ."""
    x = (
        torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        ** 3
    )
    mu, sigma = x.mean(), x.std(correction=0)
    for m, s in [(0.1302, 0.3069), (0.5, 0.5), (0.0, 1.0), (mu, sigma)]:
        new = (x - m) / s
        torch.testing.assert_close(new.mean(), (mu - m) / s, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            new.std(correction=0), sigma / s, rtol=1e-12, atol=1e-12
        )
    assert abs(new.mean()) < 1e-12 and abs(new.std(correction=0) - 1) < 1e-12


def test_eq_nearest_mean(lesson):
    """With W = μ and b = -|μ|²/2, the largest score belongs to the smallest distance, and
    -2 z is the squared distance but for |x|², the same for all classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 30, dtype=torch.float64, generator=generator)
    W = 3 * torch.randn(10, 30, dtype=torch.float64, generator=generator)
    z = lesson.product(x, W, -(W**2).sum(1) / 2)
    squared = ((x[:, None] - W) ** 2).sum(2)
    assert torch.equal(z.argmax(1), squared.argmin(1))
    torch.testing.assert_close(-2 * z + (x**2).sum(1, keepdim=True), squared)


def test_eq_batch_count(lesson):
    """⌈N/B⌉ batches, the last of N - (⌈N/B⌉ - 1) B, between 1 and B: for all small N
    and B."""
    for n in range(1, 40):
        for b in range(1, 45):
            sizes = [len(index) for index in lesson.batches(n, b)]
            count = math.ceil(n / b)
            assert len(sizes) == count and sizes[-1] == n - (count - 1) * b
            assert sizes[:-1] == [b] * (count - 1) and 1 <= sizes[-1] <= b


# The lesson's functions


def test_written_idx_files_are_read_by_torchvision(lesson, tmp_path):
    """The 16-byte header is right: torchvision reads the same images and labels back."""
    from torchvision import datasets

    assert lesson.idx_header(some_bytes(3)).hex() == "00000801" + "00000003"
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = some_bytes(7, 28, 28), torch.arange(7).byte()
    for name in ("train", "t10k"):
        lesson.write_idx(raw / f"{name}-images-idx3-ubyte", images)
        lesson.write_idx(raw / f"{name}-labels-idx1-ubyte", labels)
    for is_training in (True, False):
        read = datasets.MNIST(tmp_path, train=is_training, download=False)
        assert torch.equal(read.data, images) and torch.equal(read.targets, labels.long())


def test_class_means_are_means_of_the_class(lesson):
    """Each row is torch's mean over the images of that class, wherever they stand."""
    images, labels = some_bytes(50, 1, 4, 4), torch.arange(50) * 7 % 10
    means = lesson.class_means(images, labels)
    assert means.shape == (10, 16) and means.dtype == torch.float64
    for k in range(10):
        rows = [images[i].flatten().double() / 255 for i in range(50) if labels[i] == k]
        torch.testing.assert_close(means[k], torch.stack(rows).mean(0))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_three_ways_to_score_equal_torch(lesson, scale):
    """Number by number, image by image and as one product: `F.linear`, values and
    gradients."""
    generator = torch.Generator().manual_seed(0)
    x, W, b = (
        (
            scale * torch.randn(s, dtype=torch.float64, generator=generator)
        ).requires_grad_()
        for s in ((6, 30), (10, 30), (10,))
    )
    expected = F.linear(x, W, b)
    wanted = torch.autograd.grad(expected.square().sum(), (x, W, b))
    for way in (lesson.loop, lesson.product):
        z = way(x, W, b)
        torch.testing.assert_close(z, expected)
        got = torch.autograd.grad(z.square().sum(), (x, W, b))
        for g, w in zip(got, wanted, strict=True):
            torch.testing.assert_close(g, w)
    slow = lesson.one_image(x[0].tolist(), W.tolist(), b.tolist())
    torch.testing.assert_close(
        torch.tensor(slow, dtype=torch.float64), expected[0].detach()
    )


def test_batches_are_those_of_the_shared_module(lesson):
    """The lesson's function is train.batches: same order, each index once, own
    generator only."""
    state = torch.get_rng_state()
    for n, b in [(1, 1), (10, 4), (64, 64), (100, 7), (5, 9)]:
        for seed in (None, 0, 1):
            made = [
                list(
                    f(n, b, None if seed is None else torch.Generator().manual_seed(seed))
                )
                for f in (lesson.batches, train.batches)
            ]
            assert all(map(torch.equal, *made)) and len(made[0]) == len(made[1])
            assert torch.cat(made[0]).sort().values.tolist() == list(range(n))
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_are_those_of_a_loader(lesson):
    """In order, and in a drawn order, the batches have a DataLoader's sizes and hold each
    example once."""
    for n, b in [(10, 4), (64, 64), (100, 7), (5, 9)]:
        loader = DataLoader(TensorDataset(torch.arange(n)), batch_size=b)
        assert [x.tolist() for (x,) in loader] == [
            i.tolist() for i in lesson.batches(n, b)
        ]
        drawn = lesson.batches(n, b, torch.Generator().manual_seed(0))
        assert [len(index) for index in drawn] == [len(x) for (x,) in loader]


# Solutions of exercises


@pytest.mark.parametrize("v", range(256))
def test_mean_and_std_of_equal_numbers(solutions, v):
    """All numbers equal: the standard deviation is 0 for each of the 256 grey values, and
    never nan."""
    grey = torch.full((3, 1, 2, 2), v / 255)
    mean, std = solutions.mean_and_std([grey, grey[:1]])
    assert mean.item() == pytest.approx(v / 255) and 0 <= std.item() < 1e-6


def test_nearest_mean_equals_the_lessons_parts(lesson, solutions):
    """The blank file's solution: the lesson's class means, and the class with the least
    distance by torch.cdist."""
    images, labels = some_bytes(60, 1, 5, 4), torch.arange(60) * 7 % 10
    new = some_bytes(40, 1, 5, 4, seed=1)
    W, b, predictions = solutions.nearest_mean(images, labels, new)
    means = lesson.class_means(images, labels)
    torch.testing.assert_close(W.double(), means, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(b, -W.square().sum(1) / 2)
    distances = torch.cdist(new.flatten(1).double() / 255, means)
    assert torch.equal(predictions, distances.argmin(1))


def test_nearest_neighbour_equals_distances(solutions):
    """The label of the row with the least distance by torch.cdist."""
    generator = torch.Generator().manual_seed(0)
    x, train_x = torch.randn(2, 50, 6, dtype=torch.float64, generator=generator)
    train_y = torch.arange(50) % 10
    expected = train_y[torch.cdist(x, train_x).argmin(1)]
    assert torch.equal(solutions.nearest_neighbour(x, train_x, train_y), expected)


# What the page shows


def test_lesson_shows_the_failure_it_announces():
    """The plain mean of the batches' accuracies is another number than the accuracy, and
    the weighted mean is the accuracy."""
    (text,) = (
        output.text
        for cell in cells(LESSON)
        for output in cell.get("outputs", [])
        if "mean of the batches:" in output.get("text", "")
    )
    plain, weighted, accuracy = (line.split()[-1] for line in text.splitlines()[1:])
    assert weighted == accuracy != plain
