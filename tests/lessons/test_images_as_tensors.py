"""The lesson on images as tensors: its boxed equations, and its functions against
torch."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, definitions
from torchvision import transforms
from torchvision.datasets.mnist import read_image_file

from lessons_src.exercises import images_as_tensors as check

LESSON = "images_as_tensors"


@pytest.fixture(scope="module")
def lesson():
    return SimpleNamespace(**definitions(LESSON, "coarser", "offset"))


@pytest.fixture(scope="module")
def solutions():
    names = ("to_float", "photo_to_batch", "pixel_at", "images_of")
    return SimpleNamespace(**definitions(LESSON, *names, tag="solution"))


def some_bytes(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator).byte()


# Boxed equations


def test_eq_offset(lesson):
    """offset(n, c, h, w) = ((n C + c) H + h) W + w is the place in memory, for every
    pixel of tensors of several shapes, and what torch's strides give."""
    for shape in [(2, 3, 4, 5), (1, 1, 28, 28), (5, 1, 1, 7), (3, 2, 7, 1)]:
        x = torch.arange(math.prod(shape)).view(shape)
        for place in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
            expected = sum(i * step for i, step in zip(place, x.stride(), strict=True))
            assert lesson.offset(*place, *shape[1:]) == x[tuple(place)].item() == expected


def test_eq_wrap():
    """uint8 sums, differences and products are taken modulo 256, for all 65,536 pairs;
    with a fraction, torch computes in float32."""
    a, b = torch.cartesian_prod(torch.arange(256), torch.arange(256)).T
    assert torch.equal((a.byte() + b.byte()).long(), (a + b) % 256)
    assert torch.equal((a.byte() - b.byte()).long(), (a - b) % 256)
    assert torch.equal((a.byte() * b.byte()).long(), a * b % 256)
    assert torch.equal(a.byte() - 0.5, a - 0.5)
    assert (a.byte() - 0.5).dtype == torch.float32


# The lesson's functions


@pytest.mark.parametrize("n", [1, 2, 4, 7, 14, 28])
def test_coarser_is_average_pooling(lesson, n):
    """Means of square blocks: `F.avg_pool2d`."""
    digit = some_bytes(28, 28)
    expected = F.avg_pool2d(digit.double()[None, None], 28 // n)[0, 0]
    torch.testing.assert_close(lesson.coarser(digit, n), expected)


def test_pixel_at_undoes_the_offset(lesson, solutions):
    """The exercise's solution finds the pixel back, for every place of several shapes."""
    for shape in [(2, 3, 4, 5), (1, 1, 28, 28), (5, 1, 1, 7), (3, 2, 7, 1)]:
        for place in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
            offset = lesson.offset(*place, *shape[1:])
            assert solutions.pixel_at(offset, *shape[1:]) == tuple(place)


def test_photographs_become_what_totensor_makes(solutions):
    """[H, W, C] bytes as a batch: torchvision's ToTensor, to the last bit."""
    photo = some_bytes(9, 5, 3)
    theirs = transforms.ToTensor()(photo.numpy())
    assert torch.equal(solutions.photo_to_batch(photo)[0], theirs)


def test_images_of_an_idx_file_are_what_torchvision_reads(solutions, tmp_path):
    """The blank file's solution gives torchvision's images, scaled; so does its oracle,
    and the bytes that the checker draws are an IDX file."""
    for shape in [(7, 28, 28), (1, 3, 5), (300, 2, 1)]:
        raw = check.idx(some_bytes(*shape))
        (tmp_path / "file").write_bytes(raw)
        theirs = read_image_file(str(tmp_path / "file"))[:, None].float() / 255
        for images_of in (solutions.images_of, check.images_of.solution):
            assert torch.equal(images_of(raw), theirs)
    header = check.idx(torch.zeros(60_000, 28, 28, dtype=torch.uint8))[:16]
    assert header.hex(" ", 4) == "00000803 0000ea60 0000001c 0000001c"


# What the page shows


def test_lesson_shows_the_failures_it_announces():
    """The deliberate failure is stored: reshape gives the right shape and other
    pixels, and the matrix product refuses uint8 by name."""
    text = [str(o) for c in cells(LESSON) for o in c.get("outputs", [])]
    assert any("same shape: True\\nsame pixels: False" in t for t in text)
    assert any("unsigned char != float" in t for t in text)


def test_reshape_of_a_permuted_tensor_copies():
    """reshape goes by the reading order: after permute it keeps each channel whole, and
    copies where no strides describe the result; view raises there."""
    photo = some_bytes(6, 4, 3)
    right = photo.permute(2, 0, 1)
    line = right.reshape(72)
    assert not right.is_contiguous() and line.data_ptr() != photo.data_ptr()
    rows = line.view(3, 24)
    assert all(torch.equal(rows[c], photo[:, :, c].flatten()) for c in range(3))
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        right.view(72)
