"""Exercises of the lesson on images as tensors.

Pixels, channels, places in memory, the bytes of a file.
"""

import struct

import numpy as np
import torch
from torch import Tensor

from lessons_src.exercises import exercise


def value_and_dtype(answer, images):
    """What the answer gives, and the name of its dtype: an `observe`."""
    values = answer(images)
    if isinstance(values, Tensor | np.ndarray):
        return values, str(values.dtype).removeprefix("torch.")
    return (values, "a list") if isinstance(values, list) else values


@exercise(
    inputs=lambda draw: (
        draw.bytes(draw.size, 1, draw.integer(1, 2 + draw.size), 1 + draw.size),
    ),
    observe=value_and_dtype,
    mistakes={
        "White, 255, must become exactly 1.": lambda x: x.flatten(1) / 256,
        "By 255, not by the largest that is there.": lambda x: x.flatten(1) / x.max(),
        "flatten(1) keeps axis 0: one row for each image.": lambda x: x.flatten() / 255,
        "// cuts off all below white: use /.": lambda x: (x.flatten(1) // 255).float(),
        "float32, as a network's numbers.": lambda x: x.flatten(1).double() / 255,
    },
    hint="One row for each image; convert to float32, then divide by 255.",
)
def to_float(images):
    """uint8 images (N, 1, H, W) as a float32 matrix (N, H * W) from 0 to 1."""
    return images.flatten(1).float() / 255


@exercise(
    inputs=lambda draw: (draw.bytes(draw.integer(1, 1 + draw.size), draw.size, 3),),
    observe=value_and_dtype,
    mistakes={
        "Every channel must stay intact: reshape keeps the reading order, in which the "
        "colours of a pixel stand side by side, and so it mixes them.": (
            lambda x: x.reshape(1, 3, *x.shape[:2]) / 255
        ),
        "Height comes before width.": lambda x: x.permute(2, 1, 0)[None] / 255,
        "Add axis 0: a batch has four axes.": lambda x: x.permute(2, 0, 1) / 255,
        "By 255, not by the largest.": lambda x: x.permute(2, 0, 1)[None] / x.max(),
    },
    hint="permute(2, 0, 1) keeps every channel intact and height before width. Then add "
    "axis 0, convert to float32, and divide by 255.",
)
def photo_to_batch(photo):
    """A photograph (H, W, 3) uint8 as a batch (1, 3, H, W) float32 from 0 to 1."""
    return torch.stack(photo.unbind(2))[None].float() / 255


def place_and_sizes(draw):
    """An offset within some images, and the C, H and W of these."""
    n, C, H, W = (draw.integer(1, 2 + draw.size) for _ in range(4))
    return draw.integer(0, n * C * H * W - 1), C, H, W


@exercise(
    inputs=place_and_sizes,
    cases={
        "The first number of the second row of the second channel of the second image.": (
            (3 * 4 * 5) + (4 * 5) + 5,
            3,
            4,
            5,
        )
    },
    mistakes={
        "Of each quotient keep what remains after dividing by the axis' own length.": (
            lambda k, C, H, W: (k // (C * H * W), k // (H * W), k // W, k % W)
        ),
        "A row has W pixels, not H.": (
            lambda k, C, H, W: (k // (C * H * W), k // (H * W) % C, k // H % W, k % H)
        ),
        "The order is n, c, h, w.": (
            lambda k, C, H, W: (k % W, k // W % H, k // (H * W) % C, k // (C * H * W))
        ),
        "The last axis runs fastest, and that is the width, not the channel.": (
            lambda k, C, H, W: (k // (C * H * W), k % C, k // (C * W) % H, k // C % W)
        ),
    },
    hint="Divide by W: the remainder is w. Go on with the quotient: divide by H, then "
    "by C.",
)
def pixel_at(offset, C, H, W):
    """The place (n, c, h, w) of the number at this offset in the memory of a contiguous
    tensor [N, C, H, W]."""
    shape = (1 + offset, C, H, W)  # images enough, whatever the offset
    return tuple(i.item() for i in torch.unravel_index(torch.tensor(offset), shape))


def idx(images):
    """The bytes of an IDX file: uint8 images (N, H, W)."""
    return struct.pack(">4I", 0x0803, *images.shape) + images.numpy().tobytes()


def read(raw, start=16):
    """uint8 images (N, H, W) from the bytes of an IDX file."""
    shape = struct.unpack(">3I", raw[4:16])
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8)[start:]
    return pixels[: shape[0] * shape[1] * shape[2]].view(shape)


@exercise(
    inputs=lambda draw: (
        idx(draw.bytes(draw.integer(1, 1 + draw.size), draw.size, draw.integer(1, 4))),
    ),
    observe=value_and_dtype,
    cases={
        "There are 300 images: a length takes 4 bytes, the most significant first.": (
            idx((torch.arange(300 * 2 * 3) % 256).byte().view(300, 2, 3)),
        ),
        "The image has 65,537 rows: a length takes all of its 4 bytes.": (
            idx((torch.arange(65_537) % 256).byte().view(1, -1, 1)),
        ),
    },
    mistakes={
        "Skip the header: the pixels begin after 16 bytes.": (
            lambda raw: read(raw, start=0)[:, None] / 255
        ),
        "The rows come first, then the columns: [N, 1, H, W].": (
            lambda raw: (
                read(raw)[:, None].reshape(len(read(raw)), 1, *read(raw).mT.shape[1:])
                / 255
            )
        ),
        "Axis 1 is missing: grey images have one channel.": lambda raw: read(raw) / 255,
        "White, 255, must become exactly 1.": lambda raw: read(raw)[:, None] / 256,
        "By 255, not by the largest that is there.": (
            lambda raw: read(raw)[:, None] / read(raw).max()
        ),
        "float32 from 0 to 1, not bytes.": lambda raw: read(raw)[:, None],
        "float32, as a network's numbers.": lambda raw: read(raw)[:, None].double() / 255,
    },
    hint="Bytes 4 to 15 hold N, H and W, four bytes each, the most significant first; all "
    "later ones are pixels, in the order of a contiguous tensor.",
)
def images_of(raw):
    """The images of an IDX file, from its bytes: float32 (N, 1, H, W) from 0 to 1."""
    return read(raw)[:, None].float() / 255
