"""The course's own recipes: each tuned on held-out training images, tested once.

python -m benchmarks.own                  all of them
python -m benchmarks.own mnist-99         one
python -m benchmarks.own mnist-99 --validation --seeds 5      while tuning
"""

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.runs import Recipe, main
from lessons_src.models import Crop, RandomFlip, cnn, fix_first, mlp

adamw = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.01, fused=True)
smooth = partial(F.cross_entropy, label_smoothing=0.1)
fast = {"batch_size": 128, "optimizer": adamw, "warmup": 0.25, "channels_last": True}


def small():
    """Four convolutions, 33,594 parameters, on the middle 26 × 26 pixels."""
    return cnn((16,), (32, 32), (64,), augment=[Crop(26)])


def light():
    """Three convolutions, 34,274 parameters, on 24 × 24 pixels; every place to the classifier."""
    return cnn((8,), (32,), (96,), augment=[Crop(24)], flatten=True, size=24)


def medium():
    """With more channels, 74,578 parameters, on 24 × 24 pixels, moved in training."""
    return cnn((24,), (48, 48), (96,), augment=[Crop(24, shift=2)])


def tiny():
    """Four convolutions of 16 channels, on 24 × 24 pixels, moved in training: 7,610 parameters."""
    return cnn((16,), (16, 16), (16,), padded=True, size=24, augment=[Crop(24, shift=2)])


def clothes(fixed=True, flatten=True):
    """Three convolutions that keep the size, the first one fixed; every place to the classifier.

    54,778 parameters. The ablation varies what the arguments say.
    """
    model = cnn((16,), (32,), (64,), kernel=3, padded=True, flatten=flatten)
    return fix_first(model) if fixed else model


def wide_clothes(mirrored=False):
    """The same with more channels, 112,058 parameters; mirrored: every second training image."""
    augment = [RandomFlip()] * mirrored
    return fix_first(cnn((16,), (64,), (96,), kernel=3, padded=True, flatten=True, augment=augment))


RECIPES = [
    Recipe("mlp-97", "mnist", partial(mlp, 784, 128, 10), 2, 128, partial(adamw, lr=0.005),
           warmup=0.1),
    Recipe("mlp-98", "mnist", partial(mlp, 784, 256, 10), 3, 128, partial(adamw, lr=0.004), smooth,
           warmup=0.2),
    Recipe("mnist-99", "mnist", small, 1, loss_fn=smooth, **fast),
    Recipe("mnist-99-quick", "mnist", light, 1, 200, partial(adamw, lr=0.02), smooth, warmup=0.25,
           channels_last=True),
    Recipe("mnist-99.4", "mnist", medium, 3, loss_fn=smooth, **fast),
    Recipe("mnist-99.5", "mnist", medium, 5, loss_fn=smooth, **fast),
    Recipe("mnist-small", "mnist", tiny, 14, loss_fn=smooth, **fast),
    Recipe("fashion-91", "fashion-mnist", clothes, 1, 64, adamw, smooth, warmup=0.25,
           channels_last=True),
    Recipe("fashion-92", "fashion-mnist", clothes, 2, 64, adamw, smooth, warmup=0.25,
           channels_last=True),
    Recipe("fashion-93", "fashion-mnist", wide_clothes, 3, 64,
           partial(adamw, lr=0.006, weight_decay=0.05), smooth, warmup=0.25, channels_last=True,
           two_looks=True),
    Recipe("fashion-mirrored", "fashion-mnist", partial(wide_clothes, mirrored=True), 4, 64,
           partial(adamw, lr=0.006, weight_decay=0.05), smooth, warmup=0.25, channels_last=True,
           two_looks=True),
]  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in RECIPES}

if __name__ == "__main__":
    main(RECIPES, __doc__)
