"""What silent bugs cost: a program with one bug and its repaired twin, over seeds.

    python -m benchmarks.bugs              every bug; lessons_src/records/bugs.json
    python -m benchmarks.bugs --only NeverZeroed KeptByReference   printed, not written

The classes are those of the lesson on bugs that train anyway, letter for letter. Twins
have the same seed, images and starting weights. Every network is measured twice on the
test split: by its own program, and by the repaired one. The seconds are those of the
processor, so other work beside changes little.
"""

import argparse
import copy
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    keep_memory,
    machine,
    options,
    summarise,
    write_record,
)
from lessons_src import data
from lessons_src.data import DataError
from lessons_src.train import seed_everything

DATASETS = ("mnist", "fashion-mnist")
EPOCHS = 6
EXAMPLES, HELD_OUT = 10_000, 2_000  # of the training split: to train on, to choose by


# The program as it should be ------------------------------------------------------------


def block(n_in, n_out):
    """A hidden layer: (B, n_in) -> (B, n_out)."""
    return nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU())


class Network(nn.Module):
    """Two hidden layers with dropout: (B, 1, 28, 28) -> logits (B, classes)."""

    def __init__(self, classes=1000):
        super().__init__()
        self.hidden = nn.ModuleList([block(784, 128), block(128, 128)])
        self.head = nn.Linear(128, classes)

    def drop(self, x):
        return F.dropout(x, 0.3, training=self.training)

    def forward(self, x):
        x = x.flatten(1)  # (B, 784)
        for layer in self.hidden:
            x = self.drop(layer(x))  # (B, 128)
        return self.head(x)  # (B, classes)


def prepared(split):
    """A split as the network gets it."""
    # A mean and a spread between those of digits and of clothes: one pair for both.
    return TensorDataset(split.normalised(0.2, 0.35).images, split.labels)


class Loop:
    """How a network is trained; each method is a place where a bug can live."""

    network = Network

    def start(self):
        model = self.network()
        model.head = nn.Linear(128, 10)  # ten classes, in place of the thousand
        return model, self.optimizer(model)

    def optimizer(self, model):
        # fused: one call updates all tensors, which is faster and changes nothing else.
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002, fused=True)
        self.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.3)
        return optimizer

    def augment(self, x, y):
        return x, y

    def loss(self, logits, y):
        return F.cross_entropy(logits, y)

    def step(self, loss, optimizer):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def begin_epoch(self, model):
        model.train()

    def end_epoch(self):
        self.scheduler.step()

    def train_epoch(self, model, loader, optimizer):
        self.begin_epoch(model)
        for x, y in loader:
            x, y = self.augment(x, y)
            loss = self.loss(model(x), y)
            self.step(loss, optimizer)
            self.losses.append(loss.item())
        self.end_epoch()

    def keep(self, model):
        return copy.deepcopy(model.state_dict())


class Program(Loop):
    """The same loop with its images, and how it is measured."""

    def __init__(self, train, validation, test):
        self.train, self.validation, self.test = train, validation, test  # raw, uint8
        self.losses = []

    def loaders(self):
        train = DataLoader(prepared(self.train), 50, shuffle=True)
        validation = DataLoader(prepared(self.validation), 500)
        return train, validation, DataLoader(prepared(self.test), 500)

    @torch.no_grad()
    def evaluate(self, model, loader):
        model.eval()
        loss, right, n = 0.0, 0, len(loader.dataset)
        for x, y in loader:
            logits = model(x)  # (B, 10)
            loss += self.summed_loss(logits, y)
            right += (logits.argmax(1) == y).sum().item()
        return loss / n, right / n

    def summed_loss(self, logits, y):
        return F.cross_entropy(logits, y).item() * len(y)


# The same program with one bug ----------------------------------------------------------


class SoftmaxTwice(Program):
    def loss(self, logits, y):
        return F.cross_entropy(logits.softmax(1), y)


class AcrossTheBatch(Network):
    def forward(self, x):
        return super().forward(x).log_softmax(0)


class WrongAxis(Program):
    network = AcrossTheBatch


class StaysInEval(Program):
    def begin_epoch(self, model):
        pass  # model.train() is missing here


class DropsForever(Network):
    def drop(self, x):
        return F.dropout(x, 0.3)


class EternalDropout(Program):
    network = DropsForever


class KeptByReference(Program):
    def keep(self, model):
        return model.state_dict()


class NeverZeroed(Program):
    def step(self, loss, optimizer):
        loss.backward()
        optimizer.step()


class InAList(Network):
    def __init__(self, classes=1000):
        nn.Module.__init__(self)  # not super(), which would make the ModuleList
        self.hidden = [block(784, 128), block(128, 128)]
        self.head = nn.Linear(128, classes)


class PlainList(Program):
    network = InAList


class OldHead(Program):
    def start(self):
        model = self.network()
        optimizer = self.optimizer(model)
        model.head = nn.Linear(128, 10)
        return model, optimizer


class RateEveryBatch(Program):
    def step(self, loss, optimizer):
        super().step(loss, optimizer)
        self.scheduler.step()  # once a batch

    def end_epoch(self):
        pass


class NotShuffled(Program):
    def loaders(self):
        _, validation, test = super().loaders()
        return DataLoader(prepared(self.train), 50), validation, test


class Mixup(Program):
    def augment(self, x, y):
        y = F.one_hot(y, 10).float()  # (B, 10)
        share = torch.rand(())  # what stays of each image
        other = torch.randperm(len(x))  # its partner
        x = share * x + (1 - share) * x[other]
        y = share * y + (1 - share) * y[other]
        return x, y


class MixedApart(Program):
    def augment(self, x, y):
        y = F.one_hot(y, 10).float()  # (B, 10)
        share = torch.rand(())
        x = share * x + (1 - share) * x[torch.randperm(len(x))]
        y = share * y + (1 - share) * y[torch.randperm(len(y))]
        return x, y


class RawTest(Program):
    def loaders(self):
        train, validation, _ = super().loaders()
        test = self.test.scaled()  # from 0 to 1
        return train, validation, DataLoader(TensorDataset(test.images, test.labels), 500)


class TestIsTrain(Program):
    def loaders(self):
        train, validation, _ = super().loaders()
        return train, validation, DataLoader(prepared(self.train), 500)


class WrongCount(Program):
    def summed_loss(self, logits, y):
        return F.cross_entropy(logits, y).item()  # no `* len(y)`


# What is measured -----------------------------------------------------------------------


class Bug(NamedTuple):
    """A program with a bug, the same without it, and in words what is wrong."""

    broken: type[Program]
    title: str
    where: str  # one of the five places in which the lesson looks
    source: str  # the project and the number of the issue or pull request
    repaired: type[Program] = Program


LOSS, MEMORY, OPTIMIZER = "the loss", "the model's state", "the optimizer"
DATA, MEASURE = "the data", "the measurement"
BUGS = [
    Bug(SoftmaxTwice, "softmax before the loss", LOSS, "jaehong31/CGES#1"),
    Bug(
        WrongAxis,
        "softmax across the batch",
        LOSS,
        "swarmapytorch/book_DeepLearning_in_PyTorch_Source#8",
    ),
    Bug(StaysInEval, "stays in evaluation mode", MEMORY, "pytorch/tutorials#1602"),
    Bug(EternalDropout, "dropout that never ends", MEMORY, "yangze0930/NTS-Net#14"),
    Bug(KeptByReference, "best weights by reference", MEMORY, "pytorch/tutorials#188"),
    Bug(NeverZeroed, "gradients never zeroed", OPTIMIZER, "f-dangel/backpack#95"),
    Bug(PlainList, "layers in a Python list", OPTIMIZER, "asyml/texar-pytorch#72"),
    Bug(OldHead, "optimiser made too early", OPTIMIZER, "meta-pytorch/opacus#432"),
    Bug(RateEveryBatch, "schedule by the batch", OPTIMIZER, "pytorch/tutorials#640"),
    Bug(NotShuffled, "classes one by one", DATA, "Deci-AI/super-gradients#416"),
    Bug(MixedApart, "labels mixed apart", DATA, "xudonmao/VMT#1", Mixup),
    Bug(RawTest, "test images unprepared", DATA, "pytorch/tutorials#2419"),
    Bug(
        TestIsTrain,
        "tested on training images",
        MEASURE,
        "EdwardRaff/Inside-Deep-Learning#25",
    ),
    Bug(WrongCount, "divided by the wrong count", MEASURE, "pytorch/tutorials#1486"),
]


def run(program, epochs):
    """Train, put the best weights back, test: the network, its best validation accuracy,
    and its test loss and accuracy."""
    model, optimizer = program.start()
    train, validation, test = program.loaders()
    best = -1.0
    for _ in range(epochs):
        program.train_epoch(model, train, optimizer)
        _, accuracy = program.evaluate(model, validation)
        if accuracy > best:
            best, kept = accuracy, program.keep(model)
    model.load_state_dict(kept)
    return model, best, program.evaluate(model, test)


def images(name: str):
    """Training images in the order of their classes, as folders list them; validation
    and test images."""
    loaded = data.load(name)
    if loaded.standin:
        raise DataError(f"the costs are those of the real {name}, not of the stand-in")
    pool, held_out = loaded.train[: EXAMPLES + HELD_OUT].hold_out(HELD_OUT)
    return pool[pool.labels.argsort(stable=True)], held_out, loaded.test


def measured(kind: type[Program], splits, seed: int, epochs: int = EPOCHS) -> dict:
    """One training: what the program says of its network, and the truth by the repaired
    program; the training loss as a curve of 24 means."""
    seed_everything(seed)
    start, program = time.process_time(), kind(*splits)
    model, validation, (says_loss, says) = run(program, epochs)
    seconds = time.process_time() - start
    loss, accuracy = Program(*splits).evaluate(model, Program(*splits).loaders()[2])
    curve = [part.mean().item() for part in torch.tensor(program.losses).chunk(24)]
    return {
        "seed": seed,
        "says": says,
        "says_loss": says_loss,
        "validation": validation,
        "accuracy": accuracy,
        "loss": loss,
        "curve": [round(value, 4) for value in curve],
        "seconds": round(seconds, 2),
    }


def compared(broken: list[dict], repaired: list[dict]) -> dict:
    """What the bug cost, seed by seed, and how far its own program is from the truth."""
    pairs = list(zip(broken, repaired, strict=True))
    return {
        "cost": summarise([good["accuracy"] - bad["accuracy"] for bad, good in pairs]),
        "flatters": summarise([one["says"] - one["accuracy"] for one in broken]),
    }


def entry(bug: Bug, runs: dict) -> dict:
    """The bug's part of the record."""
    name, twin = bug.broken.__name__, bug.repaired.__name__
    about = {"name": name, "repaired": twin, "title": bug.title, "where": bug.where}
    about["source"] = bug.source
    for dataset in DATASETS:
        about[dataset] = compared(runs[name][dataset], runs[twin][dataset])
    return about


def record(args) -> None:
    """Train every program with every seed, in turns; print, and write the record."""
    bugs = [bug for bug in BUGS if not args.only or bug.broken.__name__ in args.only]
    if not args.only:
        names = {bug.broken.__name__ for bug in bugs}
        check_replaces("bugs", {"seeds": args.seeds, "bugs": names}, args)
    kinds = list(dict.fromkeys(kind for b in bugs for kind in (b.repaired, b.broken)))
    before, start = machine(), time.process_time()
    runs = {kind.__name__: {name: [] for name in DATASETS} for kind in kinds}
    for dataset in DATASETS:
        splits = images(dataset)
        for seed in range(args.seeds):
            for kind in kinds:
                result = measured(kind, splits, seed)
                runs[kind.__name__][dataset].append(result)
                print(in_a_line(dataset, kind.__name__, result), flush=True)
    entries = [entry(bug, runs) for bug in bugs]
    for one in entries:
        costs = [one[dataset]["cost"]["mean"] for dataset in DATASETS]
        print(f"{one['title']:28}" + "".join(f"{100 * cost:8.2f}" for cost in costs))
    if not args.only:
        about = {"seeds": args.seeds, "epochs": EPOCHS, "images": EXAMPLES}
        about |= {"machine": before, "seconds": time.process_time() - start}
        write_record("bugs", about | {"bugs": entries, "programs": runs}, args)


def in_a_line(dataset: str, name: str, result: dict) -> str:
    """One training, for the terminal."""
    line = f"says {result['says']:.2%}  truth {result['accuracy']:.2%}"
    seed, seconds = result["seed"], result["seconds"]
    return f"{dataset:13}  seed {seed}  {name:16} {line}  {seconds:.1f} s"


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = options(__doc__)
    seeds = "runs with seeds 0 to N - 1 (3)"
    parser.add_argument("--seeds", type=int, default=3, help=seeds)
    names = [bug.broken.__name__ for bug in BUGS]
    only = "these bugs alone, printed and not written: " + ", ".join(names)
    parser.add_argument("--only", nargs="+", choices=names, metavar="BUG", help=only)
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error("--seeds must be 1 or more")
    return args


def main() -> None:
    """Measure the bugs."""
    args = arguments()
    keep_memory()
    with errors_in_a_sentence():
        record(args)


if __name__ == "__main__":
    main()
