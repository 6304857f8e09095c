"""Answers to the exercises of the lesson on images as tensors."""

import functools
import io
import struct
from collections import namedtuple

import numpy as np
import torch
from torchvision.transforms import functional as images_to


class Scaled:
    """Divides by `white`."""

    def __init__(self, white=255):
        self.white = white

    def __call__(self, images):
        return torch.nn.Flatten()(images) / self.white


def in_place_on_a_copy(images):
    x = images.flatten(1).float()
    x /= 255
    return x


def row_by_row(images):
    rows = []
    for image in images:
        rows.append(torch.tensor([pixel / 255 for pixel in image.flatten().tolist()]))
    return torch.stack(rows)


def only_several(images):
    """Nothing is returned for one image."""
    if len(images) > 1:
        return images.flatten(1).float() / 255


def channel_by_channel(photo):
    batch = torch.empty(1, 3, *photo.shape[:2])
    for c in range(3):
        batch[0, c] = photo[:, :, c] / 255
    return batch


def by_numpy(photo):
    return torch.from_numpy(photo.numpy().transpose(2, 0, 1).copy()).float()[None] / 255


def by_remainders(offset, C, H, W):
    return offset // (C * H * W), offset // (H * W) % C, offset // W % H, offset % W


def axes_swapped(offset, C, H, W):
    n, rest = divmod(offset, C * H * W)
    c, rest = divmod(rest, H * W)
    w, h = divmod(rest, H)
    return n, c, h, w


def channels_last(offset, C, H, W):
    rest, c = divmod(offset, C)
    rest, w = divmod(rest, W)
    n, h = divmod(rest, H)
    return n, c, h, w


def one_by_one(offset, C, H, W):
    """The four indices, the last one first, turned round."""
    indices = []
    for size in (W, H, C):
        indices.append(offset % size)
        offset //= size
    return [offset, *reversed(indices)]


def index_by_index(offset, C, H, W):
    for stride in (C * H * W, H * W, W, 1):
        yield offset // stride
        offset %= stride


Pixel = namedtuple("Pixel", "n c h w")


def header(raw, order="big"):
    return [int.from_bytes(raw[4 * k : 4 * k + 4], order) for k in (1, 2, 3)]


def pixels_of(raw, start=16):
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=start)


def idx(raw, *, white=255, dtype=torch.float32):
    n, height, width = header(raw)
    return pixels_of(raw).view(n, 1, height, width).to(dtype) / white


def width_first(raw):
    n, height, width = header(raw)
    return pixels_of(raw).view(n, 1, width, height).float() / 255


def columns_first(raw):
    n, height, width = header(raw)
    return pixels_of(raw).view(n, 1, width, height).transpose(2, 3).float() / 255


def low_bytes(raw):
    """Up to 255 images only: the others' number has a second byte."""
    return pixels_of(raw).view(raw[7], 1, raw[11], raw[15]).float() / 255


def low_pairs(raw):
    """Up to 65,535 images, rows or columns only."""
    n, height, width = (int.from_bytes(raw[k : k + 2], "big") for k in (6, 10, 14))
    return pixels_of(raw).view(n, 1, height, width).float() / 255


def signed(raw):
    n, height, width = header(raw)
    pixels = np.frombuffer(raw, np.int8, offset=16)
    return torch.tensor(pixels.reshape(n, 1, height, width)).float() / 255


def square(raw):
    n, height, _ = header(raw)
    return pixels_of(raw).view(n, 1, height, height).float() / 255


def first_only(raw):
    _, height, width = header(raw)
    return pixels_of(raw)[: height * width].view(1, 1, height, width).float() / 255


def by_struct(raw):
    _, n, height, width = struct.unpack(">4I", raw[:16])
    pixels = torch.tensor(list(raw[16:]), dtype=torch.uint8)
    return pixels.reshape(n, 1, height, width) / 255


def by_numpy_buffer(raw):
    n, height, width = np.frombuffer(raw, ">i4", 3, offset=4)
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(n, 1, height, width)
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def by_reading(raw):
    file = io.BytesIO(raw)
    file.read(4)
    n, height, width = (int(file.read(4).hex(), 16) for _ in range(3))
    images = torch.empty(n, 1, height, width)
    for k in range(n):
        picture = torch.tensor(list(file.read(height * width)))
        images[k, 0] = picture.view(height, width) / 255
    return images


def as_nested_lists(raw):
    n, height, width = header(raw)
    numbers = iter(raw[16:])
    return torch.tensor(
        [
            [[[next(numbers) / 255 for _ in range(width)] for _ in range(height)]]
            for _ in range(n)
        ]
    )


WRONG = {
    "to_float": [
        lambda images: images.flatten(1).float(),
        lambda images: images.flatten(1).float() / 256,
        lambda images: images.flatten(1).float() / images.max(),
        lambda images: images.flatten(1).float() / images.flatten(1).amax(1)[:, None],
        lambda images: images.flatten().float() / 255,
        lambda images: images.squeeze(1).float() / 255,
        lambda images: images.flatten(2).float() / 255,
        lambda images: images.squeeze().flatten(1).float() / 255,  # one image
        lambda images: images.view(-1, 784).float() / 255,
        lambda images: images.view(len(images), images.shape[2] ** 2).float() / 255,
        lambda images: images.view(-1, len(images)).float() / 255,
        lambda images: (images // 255).flatten(1).float(),
        lambda images: (images.flatten(1).float() / 255).round(),
        lambda images: (images.flatten(1) / 255).byte(),
        lambda images: images.flatten(1).double() / 255,  # float32 is asked for
        lambda images: images.flatten(1).half() / 255,
        lambda images: images.transpose(2, 3).flatten(1).float() / 255,
        lambda images: images.flatten(1).float() / 127.5 - 1,
        lambda images: images.flatten(1).float().T / 255,
        lambda images: 1 - images.flatten(1).float() / 255,
        lambda images: images.view(torch.float32).flatten(1) / 255,
        only_several,
        Scaled(256),
    ],
    "photo_to_batch": [
        lambda photo: photo.reshape(1, 3, *photo.shape[:2]).float() / 255,
        lambda photo: photo.permute(2, 1, 0)[None].float() / 255,
        lambda photo: photo.permute(2, 0, 1).float() / 255,
        lambda photo: photo[None].float() / 255,
        lambda photo: photo.permute(2, 0, 1).unsqueeze(1).float() / 255,
        lambda photo: photo.permute(2, 0, 1).unsqueeze(-1).float() / 255,
        lambda photo: photo[None].transpose(1, 3).float() / 255,
        lambda photo: photo.permute(1, 2, 0)[None].float() / 255,
        lambda photo: photo.permute(2, 0, 1)[None].float(),
        lambda photo: photo.permute(2, 0, 1)[None].float() / 256,
        lambda photo: photo.permute(2, 0, 1)[None].float() / photo.max(),
        lambda photo: photo.permute(2, 0, 1)[None].double() / 255,
        lambda photo: photo.permute(2, 0, 1)[None] // 255,
        lambda photo: (photo.permute(2, 0, 1)[None] / 255).byte(),
        lambda photo: photo.permute(2, 0, 1).flip(0)[None].float() / 255,
        lambda photo: photo.permute(2, 0, 1)[None, :1].float() / 255,
        lambda photo: photo.float().mean(2)[None, None].expand(1, 3, -1, -1) / 255,
        lambda photo: photo.permute(2, 0, 1).expand(3, -1, -1, -1).float() / 255,
        lambda photo: photo.view(28, 28, 3).permute(2, 0, 1)[None].float() / 255,
        lambda photo: photo.permute(2, 0, 1)[None].float() / 127.5 - 1,
        lambda photo: (photo.permute(2, 0, 1)[None] * 2).float() / 510,  # 8 bits
    ],
    "pixel_at": [
        lambda offset, C, H, W: by_remainders(offset, C, H, W)[::-1],
        lambda offset, C, H, W: by_remainders(offset, C, W, H),
        lambda offset, C, H, W: by_remainders(offset, C, 28, 28),
        lambda offset, C, H, W: by_remainders(offset, 1, H, W),
        lambda offset, C, H, W: by_remainders(offset, 3, H, W),
        lambda offset, C, H, W: by_remainders(offset - 1, C, H, W),
        lambda offset, C, H, W: [k + 1 for k in by_remainders(offset, C, H, W)],
        lambda offset, C, H, W: (0, *by_remainders(offset, C, H, W)[1:]),
        lambda offset, C, H, W: by_remainders(offset, C, H, W)[1:],
        lambda offset, C, H, W: (
            offset // (C * H * W),
            offset // (H * W),  # which channel of all, not of this image
            offset // W % H,
            offset % W,
        ),
        lambda offset, C, H, W: (
            offset // (C * H * W),
            offset % (C * H * W) // (H * W),
            offset // H % H,
            offset % W,
        ),
        lambda offset, C, H, W: (
            offset / (C * H * W),  # not rounded down
            offset / (H * W) % C,
            offset / W % H,
            offset % W,
        ),
        lambda offset, C, H, W: (
            round(offset / (C * H * W)),
            round(offset / (H * W)) % C,
            round(offset / W) % H,
            offset % W,
        ),
        lambda offset, C, H, W: (offset % C, offset % H, offset % W, offset),
        lambda offset, C, H, W: ((offset * C + C) * H + H) * W + W,  # the other way
        lambda offset, C, H, W: np.unravel_index(offset, (C, H, W)),
        lambda offset, C, H, W: np.unravel_index(offset, (1, C, H, W)),
        lambda offset, C, H, W: str(by_remainders(offset, C, H, W)),
        axes_swapped,
        channels_last,
    ],
    "images_of": [
        lambda raw: pixels_of(raw).view(-1, 1, 28, 28).float() / 255,
        lambda raw: pixels_of(raw).view(60_000, 1, *header(raw)[1:]).float() / 255,
        lambda raw: pixels_of(raw, 0).view(*header(raw)).float()[:, None] / 255,
        lambda raw: pixels_of(raw, 8).view(-1, 1, *header(raw)[1:]).float() / 255,
        lambda raw: pixels_of(raw).view(*header(raw, "little")).float()[:, None] / 255,
        lambda raw: idx(raw, white=1),
        lambda raw: idx(raw, white=256),
        lambda raw: idx(raw, white=max(raw[16:])),
        lambda raw: idx(raw, dtype=torch.float64),
        lambda raw: (idx(raw) * 255).byte(),
        lambda raw: idx(raw)[:, 0],
        lambda raw: idx(raw).flatten(2),
        lambda raw: idx(raw).squeeze(),
        lambda raw: idx(raw).permute(0, 2, 3, 1),
        lambda raw: idx(raw).flip(0),
        lambda raw: idx(raw)[1:],
        width_first,
        columns_first,
        low_bytes,
        low_pairs,
        signed,
        square,
        first_only,
    ],
}

RIGHT = {
    "to_float": [
        lambda images: images.flatten(1) / 255,
        lambda images: images.view(len(images), -1).float().div(255),
        lambda images: images.reshape(len(images), -1).to(torch.float32).div_(255),
        lambda images: images.numpy().reshape(len(images), -1).astype("float32") / 255,
        lambda images: torch.tensor(images.flatten(1).tolist()) / 255,
        lambda images: images_to.convert_image_dtype(images).flatten(1),
        lambda images: torch.stack([image.flatten() / 255 for image in images]),
        lambda images: torch.cat([image.view(1, -1) for image in images]).float() / 255,
        lambda images: (images.double() / 255).flatten(1).float(),
        in_place_on_a_copy,
        row_by_row,
        Scaled(),
        functools.partial(lambda white, images: images.flatten(1) / white, 255.0),
    ],
    "photo_to_batch": [
        lambda photo: photo.permute(2, 0, 1).unsqueeze(0) / 255,
        lambda photo: photo[None].permute(0, 3, 1, 2).float() / 255,
        lambda photo: photo.movedim(-1, 0)[None].float().contiguous() / 255,
        lambda photo: photo.transpose(1, 2).transpose(0, 1)[None].float() / 255,
        lambda photo: torch.einsum("hwc->chw", photo.float() / 255).unsqueeze(0),
        lambda photo: torch.stack([photo[..., c] for c in range(3)])[None] / 255,
        lambda photo: torch.stack(photo.unbind(2)).view(1, 3, *photo.shape[:2]) / 255,
        lambda photo: images_to.to_tensor(photo.numpy())[None],
        lambda photo: photo.numpy().transpose(2, 0, 1)[None].astype(np.float32) / 255,
        channel_by_channel,
        by_numpy,
    ],
    "pixel_at": [
        by_remainders,
        one_by_one,
        index_by_index,
        lambda offset, C, H, W: Pixel(*by_remainders(offset, C, H, W)),
        lambda offset, C, H, W: np.unravel_index(offset, (offset + 1, C, H, W)),
        lambda *given: np.array(by_remainders(*given)),
        lambda *given: torch.tensor(by_remainders(*given)),
        lambda *given: torch.tensor(by_remainders(*given)).unbind(),
        lambda offset, C, H, W: tuple(
            offset // stride % size
            for stride, size in ((C * H * W, offset + 1), (H * W, C), (W, H), (1, W))
        ),
        functools.partial(by_remainders),
    ],
    "images_of": [
        idx,
        by_struct,
        by_numpy_buffer,
        by_reading,
        as_nested_lists,
        lambda raw: pixels_of(raw[16:], 0).reshape(-1, 1, *header(raw)[1:]) / 255,
        lambda raw: pixels_of(raw).view(*header(raw)).unsqueeze(1).float() / 255,
        lambda raw: (pixels_of(raw, 0)[16:] / 255).view(
            header(raw)[0], 1, *header(raw)[1:]
        ),
    ],
}
