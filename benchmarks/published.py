"""Published results, re-run: exactly their recipes, where a recipe is silent the choice is stated.

    python -m benchmarks.published            all of them
    python -m benchmarks.published R3 R4      these
    python -m benchmarks.published R1b --seeds 1 --checkpoints runs/    goes on when broken off

On a GPU where there is one, else on the CPU. Only the loader is another one: resident tensors,
same values, same batches of shuffled examples. PUBLISHED holds what the sources say.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.runs import Recipe, main
from lessons_src.models import mlp, r1a, r1b, r3, r4


@dataclass(frozen=True)
class Published:
    """A result as its source gives it: the only place where its numbers are typed in code.

    Shares from 0 to 1, on the test split. `step` is the last digit that the source prints: 0.0001
    for 96.74 %, 0.01 for 96 %. `after` is the epoch that the number belongs to.
    """

    source: str
    cite: str  # key in book/references.bib
    printed: str  # the number in the source's own form
    accuracy: float | None  # None: its source shows none that is left
    step: float
    after: int
    loss: float | None = None
    train_accuracy: float | None = None
    by_epoch: tuple[float, ...] = ()
    at_least: bool = False  # "over 91 %": a bound, not a number


JOURNEY = "A journey through Neural Networks, part 2: how to PyTorch"
PUBLISHED = {
    "R1a": Published(JOURNEY, "journey", "96.74 %, loss 0.10831", 0.9674, 0.0001, 100,
                     loss=0.10831),
    "R1b": Published(JOURNEY, "journey", "99.37 %, loss 0.02367", 0.9937, 0.0001, 100,
                     loss=0.02367),
    "R2": Published("Neural Networks, part 2", "nnpart2", "36.3, 54.8, 62.8 %", 0.628, 0.001, 3,
                    by_epoch=(0.363, 0.548, 0.628)),
    "R3": Published("Training a neural network using PyTorch", "r3", "lost", None, 0.01, 2),
    "R4": Published("Building Convolutional Neural Networks with PyTorch (part 3)", "r4",
                    "over 91 %", 0.91, 0.01, 10, at_least=True),
    "R5": Published("A Neural Net in PyTorch", "r5", "96 %", 0.96, 0.01, 10,
                    train_accuracy=0.9623),
}  # fmt: skip

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
           shuffle=False, moments=SCALED,
           choices="No seed is stated: ours are 0, 1, 2."),
    Recipe("R3", "mnist", r3, 2, 32, partial(adadelta, lr=0.5), F.nll_loss,
           moments=(0.1302, 0.3069),
           choices="Dropout2d on a flat tensor is written as Dropout, which is what it did."),
    Recipe("R4", "fashion-mnist", r4, 10, 32, partial(adam, lr=0.001), moments=SCALED,
           choices="As printed it cannot run: padding 1 is added to every convolution, with which "
                   "the sizes meet the printed 32·5·5."),
    Recipe("R5", "mnist", partial(mlp, 784, 100, 10), 10, 64, partial(sgd, lr=0.01),
           choices="Normalisation is not stated: pixels are normalised (R5-scaled: they are "
                   "not). Cross-entropy on logits is NLL on their log-softmax: the same numbers."),
]  # fmt: skip
# The size of test batches (R3: 500) changes no number, and all are evaluated in batches of 1,000.
RECIPES = {recipe.name: replace(recipe, by_epoch=True) for recipe in RECIPES}
# Choices that were not taken, recorded to say what they would have changed.
OTHERS = [
    replace(RECIPES["R2"], name="R2-shuffled", shuffle=True,
            choices="R2 with the examples in a new random order in every epoch."),
    replace(RECIPES["R5"], name="R5-scaled", moments=SCALED,
            choices="R5 with pixels from 0 to 1, not normalised."),
]  # fmt: skip
RECIPES |= {recipe.name: recipe for recipe in OTHERS}

if __name__ == "__main__":
    main(RECIPES, __doc__)
