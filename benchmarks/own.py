"""The course's own recipes: each tuned on held-out training images, tested once.

python -m benchmarks.own                  all of them
python -m benchmarks.own mnist-99         one
python -m benchmarks.own mnist-99 --validation --seeds 5      while tuning
"""

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.runs import Recipe, main
from lessons_src.models import RandomFlip, RandomShift, cnn

adamw = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.01, fused=True)
smooth = partial(F.cross_entropy, label_smoothing=0.1)
fast = {"batch_size": 128, "optimizer": adamw, "warmup": 0.25, "channels_last": True}


def small(*augment):
    """Four convolutions, 33,594 parameters."""
    return cnn((16,), (32, 32), (64,), augment=augment)


def medium(*augment):
    """The same with more channels: 74,578 parameters."""
    return cnn((24,), (48, 48), (96,), augment=augment)


RECIPES = [
    Recipe("mnist-99", "mnist", small, 1, loss_fn=smooth, **fast),
    Recipe("mnist-99.4", "mnist", lambda: medium(RandomShift(1)), 4, loss_fn=smooth, **fast),
    Recipe("fashion-91", "fashion-mnist", lambda: medium(RandomFlip()), 3, loss_fn=smooth, **fast),
    Recipe("fashion-93", "fashion-mnist", lambda: medium(RandomFlip(), RandomShift(1)), 12,
           loss_fn=smooth, **fast),
]  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in RECIPES}

if __name__ == "__main__":
    main(RECIPES, __doc__)
