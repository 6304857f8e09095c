"""Published results: what their sources say, and their recipes.

`PUBLISHED` holds what the sources say, `AS_PUBLISHED` the recipes. These are the
published ones; every choice and repair is stated. Only the loader is another: tensors in
memory, same values, same batches of shuffled examples.

`RECIPES` holds all recipes by name, the course's own and these.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F

from lessons_src import models
from lessons_src.models import mlp
from lessons_src.recipes import OWN, Recipe, by_name


@dataclass(frozen=True, kw_only=True)
class Published:
    """A result as its source gives it: the only place where its numbers are typed.

    Accuracies are shares from 0 to 1, on the test split.
    """

    source: str
    cite: str  # key in book/references.bib
    text: str  # the number in the source's own form
    accuracy: float
    digit: float  # the last one that the source prints: 0.0001 for 96.74 %
    epoch: int  # that the number belongs to
    loss: float | None = None
    train_accuracy: float | None = None
    by_epoch: tuple[float, ...] = ()
    at_least: bool = False  # "over 91 %" is a bound, not a number


journey = partial(
    Published,
    source="A journey through Neural Networks, part 2: how to PyTorch",
    cite="journey",
    digit=0.0001,
    epoch=100,
)
PUBLISHED = {
    "R1a": journey(text="96.74 %, loss 0.10831", accuracy=0.9674, loss=0.10831),
    "R1b": journey(text="99.37 %, loss 0.02367", accuracy=0.9937, loss=0.02367),
    "R2": Published(
        source="Neural Networks, part 2",
        cite="nnpart2",
        text="36.3, 54.8, 62.8 %",
        accuracy=0.628,
        digit=0.001,
        epoch=3,
        by_epoch=(0.363, 0.548, 0.628),
    ),
    "R3": Published(
        source="Training a neural network using PyTorch",
        cite="r3",
        text="98.28, 98.50 %, loss 0.0489",  # 9828 and 9850 of 10000
        accuracy=0.985,
        digit=0.0001,
        epoch=2,
        loss=0.0489,
        by_epoch=(0.9828, 0.985),
    ),
    "R4": Published(
        source="Building Convolutional Neural Networks with PyTorch (part 3)",
        cite="r4",
        text="over 91 %",
        accuracy=0.91,
        digit=0.01,
        epoch=10,
        at_least=True,
    ),
    "R5": Published(
        source="A Neural Net in PyTorch",
        cite="r5",
        text="96 %",
        accuracy=0.96,
        digit=0.01,
        epoch=10,
        train_accuracy=0.9623,
    ),
}

sgd = torch.optim.SGD
SCALED = (0.0, 1.0)  # ToTensor alone: pixels from 0 to 1
tutorial = partial(Recipe, dataset="mnist", batch_size=64, test_every_epoch=True)
r1 = partial(
    tutorial,
    epochs=100,
    optimizer=partial(sgd, lr=0.01, momentum=0.5),
    loss_fn=F.nll_loss,
    choices="The optimiser is not stated: SGD with lr 0.01 and momentum 0.5, those of PyTorch's "
    "MNIST example of that time. Dropout is taken as 0.5, PyTorch's default.",
)
# R3's test batches of 500 change no number: everything is evaluated in batches of 1,000.
AS_PUBLISHED = by_name(
    r1(name="R1a", network=models.r1a),
    r1(name="R1b", network=models.r1b),
    tutorial(
        name="R2",
        network=partial(mlp, 784, 512, 512, 10),
        epochs=5,
        optimizer=partial(sgd, lr=0.001),
        shuffle=False,
        moments=SCALED,
        choices="No seed is stated: ours are 0, 1, 2.",
    ),
    tutorial(
        name="R3",
        network=models.r3,
        epochs=2,
        batch_size=32,
        optimizer=partial(torch.optim.Adadelta, lr=0.5),
        loss_fn=F.nll_loss,
        moments=(0.1302, 0.3069),
        choices="Dropout2d on a flat tensor is written as Dropout, which is what it did.",
    ),
    tutorial(
        name="R4",
        dataset="fashion-mnist",
        network=models.r4,
        epochs=10,
        batch_size=32,
        optimizer=partial(torch.optim.Adam, lr=0.001),
        moments=SCALED,
        choices="As printed it cannot run: padding 1 is added to every convolution, with which "
        "the sizes meet the printed 32·5·5.",
    ),
    tutorial(
        name="R5",
        network=partial(mlp, 784, 100, 10),
        epochs=10,
        optimizer=partial(sgd, lr=0.01),
        choices="Normalisation is not stated: pixels are normalised (R5-scaled: they are "
        "not). Cross-entropy on logits is NLL on their log-softmax: the same numbers.",
    ),
)
# Choices that were not taken, recorded to say what they would have changed.
AS_PUBLISHED["R2-shuffled"] = replace(
    AS_PUBLISHED["R2"],
    name="R2-shuffled",
    shuffle=True,
    choices="R2 with the examples in a new random order in every epoch.",
)
AS_PUBLISHED["R5-scaled"] = replace(
    AS_PUBLISHED["R5"],
    name="R5-scaled",
    moments=SCALED,
    choices="R5 with pixels from 0 to 1, not normalised.",
)
RECIPES = OWN | AS_PUBLISHED
