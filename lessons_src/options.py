"""The options of `python -m lessons_src.train`: networks with their defaults, and the help."""

import argparse
import math
from functools import partial

import torch
from torch import nn

from lessons_src import data, models

PROGRAM = "python -m lessons_src.train"
HELD_OUT = 10_000  # training images for --validation, as in the benchmarks
OPTIMIZERS = {  # and a learning rate, where the network's own is for another optimizer
    "sgd": (torch.optim.SGD, 0.01),
    "adam": (torch.optim.Adam, 0.001),
    "adamw": (torch.optim.AdamW, 0.001),
    "adadelta": (torch.optim.Adadelta, 1.0),
}
EXTRA = {"momentum": 0.0, "warmup": 0.0, "label_smoothing": 0.0}  # off, where a network has none


def cnn() -> nn.Module:
    """The CNN of lesson 08: 33,594 parameters, on the middle 26 x 26 pixels."""
    network = models.cnn((16,), (32, 32), (64,), augment=[models.Crop(26)])
    return network.to(memory_format=torch.channels_last)  # what convolutions are fastest with


def _own(epochs: int, batch_size: int, optimizer: str, lr: float, **extra) -> dict:
    return EXTRA | {"epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr,
                    **extra}  # fmt: skip


# fmt: off
MODELS = {  # the network, what it is, and what it is trained with unless the options say otherwise
    "mlp": (partial(models.mlp, 784, 100, 10), "a hidden layer of 100 units",
            _own(5, 128, "adam", 0.01, warmup=0.3)),
    "cnn": (cnn, "the course's CNN, lesson 08",
            _own(1, 128, "adamw", 0.01, warmup=0.25, label_smoothing=0.1)),
    "r1a": (models.r1a, "published result R1a", _own(100, 64, "sgd", 0.01, momentum=0.5)),
    "r1b": (models.r1b, "published result R1b", _own(100, 64, "sgd", 0.01, momentum=0.5)),
    "r3": (models.r3, "published result R3", _own(2, 32, "adadelta", 0.5)),
    "r4": (models.r4, "published result R4", _own(10, 32, "adam", 0.001)),
}
# fmt: on
DESCRIPTION = """
Train a network of the course, measure it once on the test split, and print the result in one line.
It runs in one process, or under torchrun in several that share the work (see below)."""
EPILOG = """
networks, and what they are trained with unless you say otherwise:
{models}
  (the recipes of published results to the letter: python -m benchmarks.published)

on several processes, on one machine or many:
  torchrun --standalone --nproc-per-node=2 -m lessons_src.train --model cnn
  torchrun --standalone --nproc-per-node=2 --max-restarts=3 -m lessons_src.train \\
           --model r1b --checkpoint r1b.pt
  torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 \\
           -m lessons_src.train --model cnn          (on two machines; HOST is one of them)

  torchrun starts the processes (ranks). Each takes its share of every batch, and the gradients
  are averaged: the weights are those of one process with the same --batch-size, but for dropout
  and augmentation, which every rank draws for itself, and but for rounding, which a CNN makes
  larger with every step (--dtype float64: still the same to 1e-5 after a whole training). CPUs
  talk by gloo, GPUs by NCCL, one GPU for each rank. Rank 0 alone writes and reports. When a rank
  dies, torchrun ends the others; with --max-restarts it starts all of them anew, and with
  --checkpoint they go on from the last whole epoch. Each machine needs the data; the checkpoint
  has to lie where rank 0 finds it.

examples:
  {program} --data digits --model mlp --epochs 1      no download needed
  {program} --model cnn --validation --lr 0.02        tuning, without the test split
  {program} --model r1b --checkpoint r1b.pt           again after Ctrl-C: it goes on

exit status: 0 done; 1 the run failed; 2 wrong options; 130 broken off with Ctrl-C."""


class UsageError(ValueError):
    """Options that do not go together, or not with this machine; the message says which."""


def parser() -> argparse.ArgumentParser:
    """All options, in groups; one that is None has a default of its own for each network."""
    names = (f"  {k:4} {v[1]:28} {_settings(v[2])}" for k, v in MODELS.items())
    top = _Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG.format(models="\n".join(names), program=PROGRAM),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation would change its meaning with the next option
    )
    # fmt: off
    what = top.add_argument_group("what is trained")
    what.add_argument("--data", choices=[*data.SOURCES, "digits"], default="mnist",
                      help="the data set; digits: the course's stand-in by its own name (mnist)")
    what.add_argument("--model", choices=MODELS, default="cnn", help="the network (cnn)")
    what.add_argument("--examples", type=_number(int, 1), metavar="N",
                      help="the first N training images only")
    what.add_argument("--validation", action="store_true",
                      help=f"for tuning: measure on {HELD_OUT:,} training images held out at "
                      "random; the test split plays no part")
    how = top.add_argument_group("how (each network has its own defaults, listed below)")
    how.add_argument("--epochs", type=_number(int, 1), metavar="N", help="passes over the images")
    how.add_argument("--batch-size", type=_number(int, 1), metavar="B",
                     help="examples a step, of all ranks together")
    how.add_argument("--optimizer", choices=OPTIMIZERS, help="with PyTorch's other settings")
    how.add_argument("--lr", type=_number(float, 0), help="learning rate; with --warmup its peak")
    how.add_argument("--momentum", type=_number(float, 0, 1), metavar="M", help="of sgd, 0 to 1")
    how.add_argument("--warmup", type=_number(float, 0, 1), metavar="SHARE",
                     help="share of the steps in which the rate rises, before it falls to zero; "
                     "0: a constant rate")
    how.add_argument("--label-smoothing", type=_number(float, 0, 1), metavar="E",
                     help="share of the target that is spread over all classes")
    how.add_argument("--seed", type=_number(int, 0), default=0, metavar="S",
                     help="of start values, order, dropout, augmentation (0)")
    on = top.add_argument_group("on what")
    on.add_argument("--device", choices=["cpu", "cuda", "mps"],
                    help="a GPU where there is one, else the CPU")
    on.add_argument("--dtype", choices=["float32", "float64"], default="float32",
                    help="of weights and images; float64 is slow, and shows that one process and "
                    "several do the same (float32)")
    on.add_argument("--threads", type=_number(int, 1), metavar="N",
                    help="of each process (alone PyTorch's choice; under torchrun 1)")
    out = top.add_argument_group("what is written (by rank 0)")
    out.add_argument("--checkpoint", metavar="FILE",
                     help="all that the next epoch needs, after every epoch; where the file is "
                     "there already, the run goes on from it")
    out.add_argument("--save", metavar="FILE", help="the trained network's state_dict")
    out.add_argument("--json", metavar="FILE",
                     help="settings, results by epoch, seconds, versions, date, command")
    out.add_argument("--quiet", action="store_true", help="no progress: the result line alone")
    # fmt: on
    return top


def filled(args: argparse.Namespace) -> argparse.Namespace:
    """The options, with the network's own defaults where nothing was said.

    UsageError where they contradict each other or ask for a device that is not there.
    """
    own = dict(MODELS[args.model][2])
    if args.optimizer not in (None, own["optimizer"]):
        own |= {"lr": OPTIMIZERS[args.optimizer][1], "momentum": 0.0}
    for name, value in own.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.momentum and args.optimizer != "sgd":
        raise UsageError(f"--momentum belongs to --optimizer sgd, not to {args.optimizer}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(args.device, True):
        raise UsageError(f"--device {args.device}: PyTorch finds none on this machine")
    return args


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """One line, without the ten lines of usage that argparse puts before it."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def _number(kind, low, below=math.inf):
    """A type for argparse: a number that is at least `low` and less than `below`."""

    def read(text: str):
        value = kind(text)
        if not low <= value < below:
            limit = "" if below == math.inf else f" and less than {below}"
            raise argparse.ArgumentTypeError(f"{text} is not at least {low}{limit}")
        return value

    read.__name__ = {int: "whole number", float: "number"}[kind]  # "invalid number value: 'x'"
    return read


def _settings(own: dict) -> str:
    words = [f"{own['epochs']} epoch{'s' * (own['epochs'] > 1)}", f"batch {own['batch_size']}",
             f"{own['optimizer']} {own['lr']:g}"]  # fmt: skip
    return ", ".join(words + [f"{k.replace('_', ' ')} {own[k]:g}" for k in EXTRA if own[k]])
