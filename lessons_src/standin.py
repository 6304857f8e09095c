"""The stand-in: real handwriting in MNIST's shapes, from scikit-learn's small digits.

The 1,797 UCI digits of 8 x 8 pixels are first split into disjoint originals for
training and for testing, then drawn at 28 x 28 and varied by small affine warps.
Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI,
1998.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_src.files import atomic_write

KEYS = ("x", "y", "x_test", "y_test")


def load_or_make(root: Path) -> list[Tensor]:
    """Training and test images and labels: from the folder `root`, or made, and kept."""
    kept = root / "standin-1.npz"
    try:
        with np.load(kept) as arrays:
            return [torch.from_numpy(arrays[key]) for key in KEYS]
    except Exception:  # not there, or damaged in one way or another: it is made anew
        made = make()
    with suppress(OSError), atomic_write(kept) as file:  # the folder is not made for it
        np.savez(file, **dict(zip(KEYS, made, strict=True)))
    return made


def _uci_digits():
    """scikit-learn's copy: `images` (1797, 8, 8) from 0 to 16, `target` (1797,)."""
    # Imported here: it takes a second that real data do not need
    from sklearn.datasets import load_digits

    return load_digits()


def originals() -> tuple[Tensor, Tensor]:
    """Indices of the UCI digits that the stand-in's training and test images come from.

    Disjoint, and drawn before anything else is done: one in five of each class is for
    testing.
    """
    labels = torch.from_numpy(_uci_digits().target).long()
    generator = torch.Generator().manual_seed(0)
    train, test = [], []
    for k in range(10):
        members = (labels == k).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        test.append(members[: len(members) // 5])
        train.append(members[len(members) // 5 :])
    return torch.cat(train), torch.cat(test)


def make() -> list[Tensor]:
    """Draw it: (60000, 1, 28, 28) uint8, (60000,) int64, and 10,000 of each to test."""
    digits = _uci_digits()
    images = torch.from_numpy(digits.images).float()[:, None]  # (1797, 1, 8, 8)
    images = images / 16  # from 0 to 1
    images = F.interpolate(images, size=(20, 20), mode="bicubic").clamp(0, 1)
    images = F.pad(images, (4, 4, 4, 4))  # (1797, 1, 28, 28): 20 x 20 as in MNIST
    labels = torch.from_numpy(digits.target).long()
    generator = torch.Generator().manual_seed(0)
    made = []
    for members, n in zip(originals(), (60_000, 10_000), strict=True):
        drawn = members[torch.randint(len(members), (n,), generator=generator)]
        made += [_warped(images, drawn, generator), labels[drawn]]
    return made


def _warped(images: Tensor, drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Each drawn image turned, sheared and shifted a little: (n, 1, 28, 28) uint8."""
    # The last is a shift: 0.06 of half the width is 0.8 pixels
    spread = torch.tensor([0.12, 0.12, 0.06])
    warp = torch.eye(2, 3) + torch.randn(len(drawn), 2, 3, generator=generator) * spread
    out = torch.empty(len(drawn), 1, 28, 28, dtype=torch.uint8)
    # In parts: float32 grids of all would need 750 MB
    for part in torch.arange(len(drawn)).split(5000):
        size = (len(part), 1, 28, 28)
        grid = F.affine_grid(warp[part], size, align_corners=False)
        ink = F.grid_sample(images[drawn[part]], grid, align_corners=False)
        out[part] = (ink * 255).round().byte()
    return out
