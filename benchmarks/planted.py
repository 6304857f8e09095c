"""Bugs that are planted to measure the detector with: the form, and sound beginnings.

A bug is a function that takes a sound training (`Setting`) and the raw data, changes one
thing, and returns it. `planted` says which kind of `lessons_src.detector.KINDS` is its
cause, and in which networks and data sets it is planted:

    @planted("gradients_not_zeroed", networks=("mlp", "cnn"))
    def zero_grad_is_missing(setting, data):
        def train_epoch(model, train, optimizer):
            model.train()
            for x, y in shuffled(train):
                setting.loss_fn(model(x), y).backward()
                optimizer.step()

        return replace(setting, train_epoch=train_epoch)

A file of bugs is a module with such functions, one after the other; `bugs_of(module)` lists
them. Sound trainings that look odd have the same form with `planted(None, ...)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.data import Dataset, Split
from lessons_src.detector import KINDS

DATASETS = ("mnist", "fashion-mnist")
BATCH = 64


@dataclass
class Setting:
    """A training, as `check_training` takes it; the fields are its arguments.

    train_epoch(model, train, optimizer) trains one epoch; evaluate(model, test) returns
    (loss, accuracy).
    """

    model: nn.Module
    loss_fn: Callable
    optimizer: torch.optim.Optimizer
    train_epoch: Callable
    train: Any
    evaluate: Callable | None = None
    test: Any = None
    scheduler: Any = None
    best_state: dict | None = None


@dataclass(frozen=True)
class Planted:
    """One bug: its cause, a kind of KINDS (None: it is sound), and where it is planted."""

    name: str
    kind: str | None
    plant: Callable[[Setting, Dataset], Setting]
    networks: tuple[str, ...]
    datasets: tuple[str, ...]

    def setting(self, network: str, data: Dataset, seed: int = 0) -> Setting:
        """The training with the bug in it."""
        return self.plant(sound(network, data, seed), data)


def planted(kind, networks=("mlp", "cnn", "bn"), datasets=DATASETS):
    """A decorator: the function plants a bug of this kind."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"no kind {kind!r}; there are: {', '.join(KINDS)}")

    def as_bug(plant) -> Planted:
        return Planted(plant.__name__, kind, plant, tuple(networks), tuple(datasets))

    return as_bug


def bugs_of(module) -> list[Planted]:
    """The bugs of a module, in the order in which they stand."""
    found = [bug for bug in vars(module).values() if isinstance(bug, Planted)]
    return [bug for bug in found if bug.plant.__module__ == module.__name__]


# Sound beginnings ----------------------------------------------------------------------


class MLP(nn.Module):
    """(B, 1, 28, 28) -> logits (B, 10), two hidden layers."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 64), nn.Linear(64, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.fc1(x.flatten(1)))
        return self.out(F.relu(self.fc2(x)))


def cnn() -> nn.Module:
    """(B, 1, 28, 28) -> logits (B, 10), two convolutions."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 10),
    )


class BN(nn.Module):
    """(B, 1, 28, 28) -> logits (B, 10), two convolutions with batch norm, dropout."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(400, 10)

    def forward(self, x):
        x = F.relu(self.bn1(F.max_pool2d(self.conv1(x), 2)))  # (B, 8, 12, 12)
        x = F.relu(self.bn2(F.max_pool2d(self.conv2(x), 2)))  # (B, 16, 5, 5)
        return self.fc(self.dropout(x.flatten(1)))


NETWORKS = {"mlp": MLP, "cnn": cnn, "bn": BN}


def shuffled(split: Split, batch_size: int = BATCH):
    """Batches (x, y) of a split in a random order."""
    for index in torch.randperm(len(split)).split(batch_size):
        yield split.images[index], split.labels[index]


def in_order(split: Split, batch_size: int = BATCH):
    """Batches (x, y) of a split as it lies."""
    for index in torch.arange(len(split)).split(batch_size):
        yield split.images[index], split.labels[index]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the sound trainings."""
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def sound(network: str, data: Dataset, seed: int = 0) -> Setting:
    """A training with nothing wrong: "mlp", "cnn" or "bn", on normalised images."""
    torch.manual_seed(seed)
    model, loss_fn = NETWORKS[network](), nn.CrossEntropyLoss()

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        loss, correct = 0.0, 0
        for x, y in in_order(test, 1000):
            logits = model(x)
            loss += loss_fn(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
        return loss / len(test), correct / len(test)

    train, test = data.normalised()
    return Setting(model, loss_fn, sgd(model), train_epoch, train, evaluate, test)


# The worked example; the other bugs are in benchmarks/detector.py ----------------------


@planted("gradients_not_zeroed")
def zero_grad_is_missing(setting, data):
    """backpack#95, on the MNIST example."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)
