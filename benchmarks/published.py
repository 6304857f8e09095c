"""Published results, re-run: exactly their recipes, where a recipe is silent the choice is stated.

    python -m benchmarks.published            all of them
    python -m benchmarks.published R3 R4      these
    python -m benchmarks.published R1b --seeds 1 --checkpoints runs/    goes on when broken off

Only the loader is another one: resident tensors, same values, same batches of shuffled examples.
"""

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.runs import Recipe, main
from lessons_src.models import mlp, r1a, r1b, r3, r4

sgd, adam, adadelta = torch.optim.SGD, torch.optim.Adam, torch.optim.Adadelta
SCALED = (0.0, 1.0)  # ToTensor alone: pixels from 0 to 1
R1 = (
    "The optimiser is not stated: SGD with lr 0.01 and momentum 0.5, those of PyTorch's MNIST "
    "example of that time. Dropout is taken as 0.5, PyTorch's default."
)
RECIPES = [
    Recipe("R1a", "mnist", r1a, 100, 64, partial(sgd, lr=0.01, momentum=0.5), F.nll_loss,
           choices=R1),
    Recipe("R1b", "mnist", r1b, 100, 64, partial(sgd, lr=0.01, momentum=0.5), F.nll_loss,
           choices=R1),
    Recipe("R2", "mnist", partial(mlp, 784, 512, 512, 10), 5, 64, partial(sgd, lr=0.001),
           shuffle=False, moments=SCALED),
    Recipe("R3", "mnist", r3, 2, 32, partial(adadelta, lr=0.5), F.nll_loss,
           moments=(0.1302, 0.3069),
           choices="Dropout2d on a flat tensor is written as Dropout, which is what it did."),
    Recipe("R4", "fashion-mnist", r4, 10, 32, partial(adam, lr=0.001), moments=SCALED,
           choices="As printed it cannot run: padding 1 is added to every convolution, with which "
                   "the sizes meet the printed 32·5·5."),
    Recipe("R5", "mnist", partial(mlp, 784, 100, 10), 10, 64, partial(sgd, lr=0.01),
           choices="Pixels are normalised: scaled alone they end below it. Cross-entropy on "
                   "logits stands for NLL on their log-softmax: the same numbers."),
]  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in RECIPES}

if __name__ == "__main__":
    main(RECIPES, __doc__)
