"""The layers and networks that more than one lesson uses.

Each is written out in a lesson first.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_src.expect import (
    expect,
    expect_between,
    expect_bool,
    expect_images,
    expect_int,
    expect_type,
)


class RandomShift(nn.Module):
    """Augmentation: in training each image moves by up to `pixels`, zeros come in.

    x (B, C, H, W) -> the same shape; every image has its own shift, uniform over the
    (2 pixels + 1)² possible ones. In evaluation it does nothing. Built in the lesson on
    regularization.
    """

    def __init__(self, pixels: int):
        super().__init__()
        expect_int("pixels", pixels, low=0)
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        expect_images(x)
        if not self.training or self.pixels == 0:
            return x
        (B, _, H, W), p = x.shape, self.pixels
        # All windows of the padded image, as a view: no pixel is copied yet.
        padded = F.pad(x, (p, p, p, p))
        windows = padded.unfold(2, H, 1).unfold(3, W, 1)  # (B, C, 2p+1, 2p+1, H, W)
        dy, dx = torch.randint(2 * p + 1, (2, B), device=x.device)  # (B,) each
        return windows[torch.arange(B, device=x.device), :, dy, dx]  # (B, C, H, W)


class Crop(nn.Module):
    """The middle of an image, in training moved by up to `shift` pixels.

    x (B, C, H, W) -> (B, C, size, size). Smaller images cost less in every layer after
    it. Built in the lesson on a fast CNN.
    """

    def __init__(self, size: int, shift: int = 0):
        super().__init__()
        expect_int("size", size)
        expect_int("shift", shift, low=0)
        self.size, self.shift = size, shift

    def forward(self, x: Tensor) -> Tensor:
        expect_images(x)
        (B, _, H, W), n, s = x.shape, self.size, self.shift
        fits = n + 2 * s <= min(H, W)
        expect(fits, f"Crop({n}, shift={s}) needs images of {n + 2 * s} pixels", x)
        top, left = (H - n) // 2 - s, (W - n) // 2 - s
        middle = x[:, :, top : top + n + 2 * s, left : left + n + 2 * s]
        if not self.training or s == 0:
            return middle[:, :, s : s + n, s : s + n]
        # All windows, as a view (B, C, 2s+1, 2s+1, n, n)
        windows = middle.unfold(2, n, 1).unfold(3, n, 1)
        dy, dx = torch.randint(2 * s + 1, (2, B), device=x.device)  # (B,) each
        return windows[torch.arange(B, device=x.device), :, dy, dx]  # (B, C, n, n)


class RandomFlip(nn.Module):
    """Augmentation as a layer: in training each image is mirrored with probability 1/2.

    x (B, C, H, W) -> the same shape, left and right swapped. In evaluation it does
    nothing. Built in the lesson on Fashion-MNIST.
    """

    def forward(self, x: Tensor) -> Tensor:
        expect_images(x)
        if not self.training:
            return x
        mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5  # (B, 1, 1, 1)
        return torch.where(mirrored, x.flip(3), x)


def mlp(*sizes, activation=nn.ReLU):
    """An MLP of these layer sizes: mlp(784, 100, 10) has one hidden layer of 100."""
    for size in sizes:
        expect_int("each size in mlp(784, 100, 10)", size)
    expect_int("the number of sizes in mlp(784, 100, 10)", len(sizes), low=2)
    expect(
        makes_layer(activation), "activation must be a class, as nn.ReLU is", activation
    )
    modules = [nn.Flatten()]  # (B, 1, 28, 28) -> (B, 784)
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        modules += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*modules[:-1])  # no activation on the logits


def makes_layer(activation) -> bool:
    """Whether activation() is a layer: it is a class like nn.ReLU, and no layer itself."""
    try:
        return isinstance(activation(), nn.Module)
    except TypeError:
        return False


def r1a(dropout=0.5):
    """Published result R1a: (B, 1, 28, 28) -> log-probabilities (B, 10)."""
    expect_between("dropout", dropout)
    return nn.Sequential(
        nn.Conv2d(1, 1, 3),
        nn.ReLU(),  # (B, 1, 26, 26)
        nn.Conv2d(1, 1, 3),
        nn.ReLU(),
        nn.Flatten(),  # (B, 576)
        nn.Linear(576, 100),
        nn.ReLU(),
        nn.Dropout(dropout),  # (B, 100)
        nn.Linear(100, 10),
        nn.LogSoftmax(1),
    )


def r1b(dropout=0.5):
    """Published result R1b: (B, 1, 28, 28) -> log-probabilities (B, 10)."""
    expect_between("dropout", dropout)
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),  # (B, 20, 12, 12)
        nn.Conv2d(20, 30, 5),
        nn.Dropout2d(dropout),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(480, 60),
        nn.ReLU(),
        nn.Dropout(dropout),  # (B, 60)
        nn.Linear(60, 10),
        nn.LogSoftmax(1),
    )


def r3():
    """The network of published result R3: (B, 1, 28, 28) -> log-probabilities (B, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),  # (B, 16, 26, 26)
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (B, 32, 12, 12)
        nn.Dropout2d(0.1),
        nn.Flatten(),  # (B, 4608)
        nn.Linear(4608, 64),
        nn.ReLU(),
        nn.Dropout(0.25),  # published as Dropout2d, which here does this, and warns
        nn.Linear(64, 10),
        nn.LogSoftmax(1),
    )


def r4():
    """The network of published result R4, repaired: (B, 1, 28, 28) -> logits (B, 10).

    With padding 1, which its listing lacks, the sizes meet the 32·5·5 that it flattens
    to.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),  # (B, 16, 28, 28)
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),  # (B, 16, 14, 14)
        nn.Conv2d(16, 32, 5, padding=1),
        nn.ReLU(),  # (B, 32, 12, 12)
        nn.Conv2d(32, 32, 5, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),  # (B, 800)
        nn.Linear(800, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def cnn(*groups, augment=(), kernel=5, padded=False, flatten=False, dropout=0.0, size=28):
    """The course's convolutional network: (B, 1, 28, 28) -> logits (B, 10).

    groups: the channels of its convolutions; between two groups a max-pool halves
    height and width: cnn((16,), (32,), (64,)). augment: layers that act on the images
    first; size: what they leave of 28. kernel: of the first convolution, the others
    have 3. padded: convolutions keep the size. flatten: classify from all positions;
    otherwise from each channel's maximum. Built in the lessons on a fast CNN and on Fashion-MNIST.
    """
    are_groups = groups and all(
        isinstance(group, tuple | list) and group for group in groups
    )
    expect(are_groups, "give groups of channels: cnn((16,), (32, 32))", groups[:1])
    for n in (n for group in groups for n in group):
        expect_int("each number of channels in cnn((16,), (32, 32))", n)
    are_layers = isinstance(augment, tuple | list | nn.Sequential)
    are_layers = are_layers and all(isinstance(layer, nn.Module) for layer in augment)
    expect(are_layers, "augment must be a list of layers, [RandomShift(2)]", augment)
    expect_bool("padded", padded)
    expect_bool("flatten", flatten)
    expect_between("dropout", dropout)
    expect_int("kernel", kernel)
    expect_int("size", size)
    expect(not padded or kernel % 2, "a padded kernel has an odd size", kernel)
    layers, n_in = [], 1
    for g, group in enumerate(groups):
        for k, n_out in enumerate(group):
            pad = kernel // 2 if padded else 0
            layers.append(nn.Conv2d(n_in, n_out, kernel, padding=pad, bias=False))
            if k == len(group) - 1 and g < len(groups) - 1:
                # Before norm and ReLU, which then have a quarter to do
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(n_out), nn.ReLU()]
            n_in, kernel = n_out, 3
    layers += [nn.Flatten()] if flatten else [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    features = features_of(layers, size)
    if dropout != 0:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(features, 10))
    return nn.Sequential(*augment, *layers).train()


def features_of(layers, size: int) -> int:
    """How many numbers these layers make of an image; counted by running them.

    ValueError where nothing is left of it.
    """
    try:
        with torch.no_grad():
            return nn.Sequential(*layers).eval()(torch.zeros(1, 1, size, size)).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"images of {size} × {size} pixels are too small for these layers: take fewer "
            "groups, a smaller kernel, or padded=True"
        ) from error


def cosine_filters(k=3):
    """Cosine patterns on k×k pixels, none constant, both signs: (2k² - 2, 1, k, k).

    The patterns are orthonormal (the discrete cosine transform) and each sums to 0, so
    a filter answers to edges and lines, and not to brightness. Built in
    the lesson on Fashion-MNIST.
    """
    expect_int("k", k, low=2)  # of one pixel only the constant pattern is there
    centres = (torch.arange(k) + 0.5) / k  # of the pixels, in a window of length 1
    waves = torch.stack([torch.cos(math.pi * u * centres) for u in range(k)])  # (k, k)
    waves = waves / waves.norm(dim=1, keepdim=True)
    patterns = torch.einsum("uy,vx->uvyx", waves, waves).flatten(0, 1)  # (k², k, k)
    patterns = patterns[1:]  # the first is constant
    return torch.cat([patterns, -patterns])[:, None]


def fix_first(model):
    """Give the first convolution of a `cnn` cosine filters for good; returns the model.

    It is not trained: its weight asks for no gradient. ValueError where it has not as
    many filters as there are (16 for a kernel of 3). Built in the lesson on
    Fashion-MNIST.
    """
    expect_type("model", model, nn.Sequential)
    conv = next((layer for layer in model if isinstance(layer, nn.Conv2d)), None)
    expect(conv is not None, "the model must have a convolution to fix", model)
    filters = cosine_filters(conv.kernel_size[0])
    if conv.weight.shape != filters.shape:
        n, k = len(filters), conv.kernel_size[0]
        raise ValueError(
            f"the first convolution of {k}×{conv.kernel_size[1]} must be 1→{n} channels "
            f"of {k}×{k} to be fixed, not {conv.in_channels}→{conv.out_channels}"
        )
    conv.weight = nn.Parameter(filters, requires_grad=False)
    return model


class MirrorAverage(nn.Module):
    """Test-time augmentation: the mean probability for an image and its mirror image.

    x (B, 1, H, W) -> log-probabilities (B, K). Developed in the lesson on Fashion-MNIST.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        expect_type("model", model, nn.Module)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        expect_images(x)
        both = self.model(x).softmax(1) + self.model(x.flip(3)).softmax(1)  # (B, K)
        return (both / 2).log()
