"""Everyday mistakes: every public function says what is wrong and what to do, at once.

One table. A line is a public function, a kind of mistake, an input that somebody tried,
and words of the answer. The functions are found by introspection: one without a line, or
without a place in INSIDE, fails a test.
"""

import importlib
import inspect
import io
import math
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import ROOT
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from lessons_src import data, figures, interactive, models, recipes, records, train
from lessons_src.data import Dataset, Split
from lessons_src.detector import check_training
from lessons_src.muon import Muon, orthogonal
from lessons_src.scale import checkpoint, distributed, graph, run
from lessons_src.scale import fit as scale_fit

MODULES = (
    "data download standin train train_checks models muon recipes published records "
    "figures svg interactive files expect detector exercises scale.checkpoint "
    "scale.description scale.distributed scale.fit scale.graph scale.run"
)
# Modules and functions that lessons do not call: what reaches them is checked before.
# Of `exercises` they call checkers, which say what is wrong and raise nothing, and summary.
INSIDE = """
    download standin svg files expect published train_checks data.check_name
    train.history_on_error
    models.makes_layer muon.Muon.step_of_kernel recipes.by_name recipes.Recipe.as_dict
    records.recipe_of records.can_be_made records.threads_of detector.check_arguments
    detector.check_data_and_loss detector.check_returned
    figures.caption_html
    figures.grey_images figures.as_array figures.value_range figures.empty_grid
    figures.numbers_of figures.pair_counts interactive.still interactive.reply
    interactive.html_pages interactive.one_page interactive.one_page_by_kernel
    interactive.show_with_words description checkpoint.check_same
    checkpoint.write_checkpoint checkpoint.restore checkpoint.restore_random
    checkpoint.cuda_random_state
    distributed.check_restarts distributed.own_gpu fit.where_not_finite
    fit.replicate graph.tensors_of run.end run.arguments run.whole_number
    run.run run.check_device run.check_writable run.load_for
    run.notices run.trained run.report run.write_results run.write_text
    models.features_of checkpoint.file_at exercises
"""
# Nothing can be given to them, or whatever is given is right.
NOTHING_TO_GET_WRONG = """
    data.Dataset data.Dataset.normalised data.Dataset.std
    train.pick_device train.environment models.r3 models.r4 recipes.small
    recipes.light recipes.lighter recipes.medium recipes.tiny recipes.mirrored_clothes
    recipes.wide_clothes records.command_for exercises.summary figures.Picture
    figures.Picture.png figures.Picture.size figures.Picture.html
    figures.Picture.words distributed.rank distributed.world_size distributed.all_gather
    distributed.on_rank_0 distributed.local_rank_0_first
"""
KINDS = {
    "container": "a list, a tuple, an array, a loader, a class in the place of a thing",
    "shape": "too many or too few dimensions, lengths that do not belong together",
    "dtype": "integers for floats, floats for classes, raw pixels",
    "range": "a number that is too small, too large, nan, or not whole",
    "count": "of examples, steps, epochs, images: none, or more than there are",
    "share": "a number between 0 and 1 that is not",
    "device": "here and there, or not on this machine",
    "name": "misspelt, of another kind, twice the same",
    "state": "of another training, another model, another file",
    "twice": "a cell run again",
}

generator = torch.Generator().manual_seed(0)
raw = Split(torch.zeros(9, 1, 28, 28, dtype=torch.uint8), torch.arange(9))
good = raw.scaled()
whole = Dataset("mnist", raw, raw, tuple("0123456789"), "here")
recipe = recipes.OWN["mlp-97"]
ALT = "what is to be seen in this picture"
images = torch.zeros(2, 8, 8)
on_meta = good.to("meta")
of_14 = Split(torch.zeros(9, 1, 14, 14), torch.arange(9))
twenty = Split(torch.rand(20, 1, 28, 28, generator=generator), torch.arange(20) % 10)


class Untouched(nn.Linear):
    """A network that must not be run: what is wrong is said before."""

    def __init__(self):
        super().__init__(784, 10)

    def forward(self, x):
        raise AssertionError("the network was run before the mistake was named")


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def fit(split=good, epochs=1, model=None, optimizer=None, loop=train.fit, **options):
    """A training that is refused before a step is taken."""
    model, options = model or Untouched(), {"progress": False} | options
    optimizer = optimizer or sgd(model if isinstance(model, nn.Module) else small())
    if isinstance(optimizer, torch.optim.Optimizer):
        optimizer.register_step_pre_hook(no_step)
    return loop(model, split, epochs, optimizer, **options)


def no_step(*_, **__):
    raise AssertionError("a step was taken before the mistake was named")


def fit_by(scheduler_of, epochs=1):
    """The same with the schedule that is made for the optimizer."""
    model = Untouched()
    optimizer = sgd(model)
    return fit(good, epochs, model, optimizer, scheduler=scheduler_of(optimizer))


class Two(nn.Sequential):
    """Two layers, with an optimizer that was made before the second was replaced."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10), nn.Linear(10, 10))
        self.early = sgd(self)
        self[2] = nn.Linear(10, 10)


def fit_early(model):
    return fit(model=model, optimizer=model.early)


def frozen():
    return Untouched().requires_grad_(False)


def small():
    """A network that may be run."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def normalising():
    """The same with batch norm, which needs two examples."""
    return nn.Sequential(*small(), nn.BatchNorm1d(10))


def summed(z, y):
    return F.cross_entropy(z, y, reduction="sum")


def mean_by(reduction):
    return partial(F.cross_entropy, reduction=reduction)


def without_gradients():
    with torch.no_grad():
        fit()


def epoch(model, split, optimizer):
    """A loop for the detector."""
    for index in train.batches(len(split), 8):
        optimizer.zero_grad()
        F.cross_entropy(model(split.images[index]), split.labels[index]).backward()
        optimizer.step()


def detected(split=None, loss_fn=F.cross_entropy, **options):
    model, split = small(), twenty if split is None else split
    check_training(model, loss_fn, sgd(model), epoch, split, **options)


def muon(*made_of, **options):
    return Muon(*(made_of or [models.cnn((2,)).parameters()]), **{"lr": 0.1} | options)


def over(optimizer):
    """A schedule of 2 steps that were taken: the cell is run a second time."""
    schedule = LambdaLR(optimizer, lambda t: train.warmup_decay(t, 2))
    optimizer.step()
    for _ in range(2):
        schedule.step()
    return schedule


def with_checkpoint(path="/nowhere/a.pt", **options):
    fit(loop=partial(checkpoint.fit_with_checkpoint, path), **options)


def command(*words):
    """The command line: what it says at exit status 2 or 1."""
    said = io.StringIO()
    with redirect_stderr(said), pytest.raises(SystemExit) as end:
        run.main([*words])
    assert end.value.code in (1, 2) and "Traceback" not in said.getvalue()
    raise ValueError(said.getvalue().splitlines()[-1])


def grid(given, **options):
    return figures.image_grid(given, **{"alt": ALT} | options)


def curves(given, *key, **options):
    return figures.curves(given, *key, alt=ALT, **options)


def confusion(labels, predictions, names="abcd"):
    return figures.confusion(labels, predictions, names, alt=ALT)


def picture():
    return figures.picture(plt.figure(), ALT)


def ints(*shape):
    return torch.zeros(*shape, dtype=torch.int64)


MISTAKES = {
    "data.load": [
        (
            "container",
            lambda: data.load("mnist", ""),
            "root must be a folder, .*received ''",
        ),
        ("container", lambda: data.load("mnist", 5), "root must be a folder"),
        ("container", lambda: data.load("mnist", notice="no"), "notice must be True or"),
        ("name", lambda: data.load("MNIST"), "no data set 'MNIST'; there are: mnist"),
        ("container", lambda: data.load(["mnist"]), "no data set"),
    ],
    "data.Split": [
        (
            "container",
            lambda: Split(good.images, np.zeros(9, dtype=np.int64)),
            "labels must be a Tensor, received a NumPy array .*from_numpy",
        ),
        (
            "container",
            lambda: Split(np.zeros((9, 1, 2, 2)), ints(9)),
            "images must be a Tensor",
        ),
        ("container", lambda: Split([1, 2], [1, 2]), "must be a Tensor, received list"),
        (
            "shape",
            lambda: Split(good.images, ints(9, 1)),
            r"labels \(N,\) int64; received",
        ),
        ("dtype", lambda: Split(good.images, torch.zeros(9)), "torch.float32"),
        (
            "device",
            lambda: Split(on_meta.images, ints(9)),
            r"on one device; split.to\(device\)",
        ),
        ("count", lambda: list(raw), "take split.images"),
        ("count", lambda: raw[np.int64(3)], "take split.images"),
        ("count", lambda: raw[torch.tensor(3)], "take split.images"),
    ],
    "data.Split.to": [("device", lambda: raw.to("gpu"), "device type")],
    "data.Split.scaled": [
        (
            "dtype",
            lambda: Split(raw.images > 0, raw.labels).scaled(),
            "pixels must be uint8 from 0 to 255, .*received .* torch.bool",
        ),
        ("dtype", lambda: Split(raw.images.to(torch.int8), raw.labels).scaled(), "int8"),
        ("dtype", lambda: Split(raw.images.long(), raw.labels).scaled(), "torch.int64"),
        ("twice", lambda: raw.scaled().scaled(), "scaled already"),
    ],
    "data.Split.normalised": [
        (
            "dtype",
            lambda: Split(raw.images > 0, raw.labels).normalised(0.1, 0.3),
            "pixels must be uint8",
        ),
        ("twice", lambda: raw.scaled().normalised(0.1, 0.3), "scaled already"),
        ("range", lambda: raw.normalised(0.1, 0.0), "std must be more than 0"),
        (
            "range",
            lambda: raw.normalised(33.3, 78.6),
            "mean, of pixels from 0 to 1, must be",
        ),
        ("range", lambda: raw.normalised(0.1, math.nan), "std, of pixels"),
    ],
    "data.Split.hold_out": [
        ("range", lambda: raw.hold_out(3, seed=2**64), "seed must be a whole number"),
        (
            "share",
            lambda: raw.hold_out(0.1),
            "hold out must be a whole number, 1 to 8, received 0.1",
        ),
        ("count", lambda: raw.hold_out(9), "1 to 8, received 9"),
        ("count", lambda: raw.hold_out(True), "received True"),
        ("range", lambda: raw.hold_out(3, seed="a"), "seed must be a whole number"),
    ],
    "data.Dataset.mean": [
        ("twice", lambda: replace(whole, train=good).mean, "of uint8 pixels as loaded"),
        (
            "count",
            lambda: replace(whole, train=raw[:0]).mean,
            "of uint8 pixels as loaded",
        ),
    ],
    "train.fit": [
        (
            "state",
            lambda: fit_early(Two()),
            "does not hold 2.weight, 2.bias: make it anew.*requires_grad_",
        ),
        (
            "state",
            lambda: fit(model=frozen(), optimizer=sgd(frozen())),
            "none of the model's parameters",
        ),
        (
            "state",
            lambda: fit(model=(m := frozen()), optimizer=sgd(m)),
            "asks for a gradient",
        ),
        ("state", without_gradients, "gradients are off"),
        (
            "container",
            lambda: fit(loss_fn=mean_by("sum")),
            "a batch's mean, received 'sum'",
        ),
        ("container", lambda: fit(loss_fn=mean_by("none")), "received 'none'"),
        ("container", lambda: fit(loss_fn=None), "must be a function.*received None"),
        ("container", lambda: fit(loss_fn="ce"), "must be a function.*received 'ce'"),
        (
            "container",
            lambda: fit(model=small(), loss_fn=lambda z, y: F.cross_entropy(z, y).item()),
            "a tensor of one number, the mean, received 2",
        ),
        (
            "container",
            lambda: fit(model=small(), loss_fn=lambda z, y: (z.sum(1) - y) ** 2),
            "a tensor of one number",
        ),
        (
            "container",
            lambda: fit(model=small(), loss_fn=lambda z, y: summed(z, y)),
            "a batch's mean, received 'sum'",
        ),
        (
            "shape",
            lambda: fit(of_14, model=small()),
            r"not take images \(1, 14, 14\): its layer 1, Linear\(in_features=784.*2x196",
        ),
        (
            "shape",
            lambda: fit(test=of_14, model=small()),
            r"not take images \(1, 14, 14\): its layer 1, Linear",
        ),
        (
            "shape",
            lambda: fit(of_14, model=nn.Linear(784, 10)),
            r"not take images \(1, 14, 14\): it, Linear",
        ),
        (
            "range",
            lambda: fit(test=Split(good.images, good.labels + 2), model=small()),
            "labels must be from 0 to 9, as there are 10 logits, received 10",
        ),
        (
            "count",
            lambda: fit(model=normalising(), batch_size=4),
            "the last batch of 9 examples, in batches of 4, has one example, which batch",
        ),
        ("container", lambda: fit(scheduler=lambda t: 1), "a schedule of this optimizer"),
        ("container", lambda: fit(scheduler=3), "a schedule of this.*received 3"),
        ("container", lambda: fit_by(ReduceLROnPlateau), "stepped at every batch"),
        (
            "container",
            lambda: fit(
                model=(m := Untouched()), optimizer=torch.optim.LBFGS(m.parameters())
            ),
            "step.. needs no closure, received LBFGS",
        ),
        ("container", lambda: fit(progress="no"), "progress must be True"),
        (
            "dtype",
            lambda: fit(Split(good.images.double(), good.labels)),
            r"images must be torch.float32, as the model is: images.to\(torch.float32\)",
        ),
        (
            "dtype",
            lambda: fit(test=Split(good.images.double(), good.labels)),
            "images must be torch.float32",
        ),
        (
            "range",
            lambda: fit(Split(good.images, good.labels + 2), model=small()),
            "labels must be from 0 to 9, as there are 10 logits, received 10",
        ),
        (
            "container",
            lambda: fit((good.images, good.labels)),
            "must be a Split, received tuple",
        ),
        (
            "container",
            lambda: fit(torch.utils.data.DataLoader(raw.images)),
            "received DataLoader",
        ),
        (
            "container",
            lambda: fit(model=Untouched, optimizer=sgd(Untouched())),
            "model must be a Module, received the class Untouched",
        ),
        (
            "container",
            lambda: fit(optimizer=torch.optim.SGD),
            "optimizer must be an Optimizer, received the class SGD",
        ),
        (
            "container",
            lambda: fit(generator=0),
            r"generator must be a Generator: torch.Generator\(\)",
        ),
        (
            "container",
            lambda: fit(loss_fn=nn.CrossEntropyLoss),
            "loss_fn must be a function",
        ),
        (
            "container",
            lambda: fit(loss_fn=nn.CrossEntropyLoss(reduction="sum")),
            "a batch's mean, received 'sum'",
        ),
        ("container", lambda: fit(test=(good.images, good.labels)), "received tuple"),
        ("container", lambda: fit_by(lambda o: LambdaLR), "a schedule of this optimizer"),
        ("dtype", lambda: fit(raw), r"call .scaled\(\)"),
        ("dtype", lambda: fit(test=raw), r"call .scaled\(\)"),
        ("count", lambda: fit(good[:0]), "at least one example"),
        ("count", lambda: fit(test=good[:0]), "at least one example"),
        ("count", lambda: fit(epochs=-1), "epochs must be a whole number, 0 or more"),
        ("count", lambda: fit(epochs=2.5), "received 2.5"),
        ("count", lambda: fit(epochs="3"), "received '3'"),
        ("range", lambda: fit(batch_size=0), "batch_size must be a whole number"),
        (
            "range",
            lambda: fit(Split(good.images, good.labels - 1)),
            "labels must be 0 or more, received -1",
        ),
        (
            "device",
            lambda: fit(on_meta),
            r'must be on cpu, as the model is: split.to\("cpu"\)',
        ),
        (
            "state",
            lambda: fit(optimizer=sgd(Untouched())),
            "none of the model's parameters.*make it anew",
        ),
        (
            "state",
            lambda: fit_by(lambda o: LambdaLR(sgd(Untouched()), lambda t: 1)),
            "a schedule of this optimizer",
        ),
        ("twice", lambda: fit_by(over), "step 3 of a schedule of 2 steps: it is over"),
    ],
    "train.evaluate": [
        (
            "container",
            lambda: train.evaluate(Untouched(), good, loss_fn=nn.CrossEntropyLoss),
            "must be a function.*received the class CrossEntropyLoss",
        ),
        (
            "container",
            lambda: train.evaluate(Untouched(), good, loss_fn=mean_by("sum")),
            "a batch's mean, received 'sum'",
        ),
        (
            "range",
            lambda: train.evaluate(small(), Split(good.images, good.labels + 2)),
            "labels must be from 0 to 9",
        ),
        (
            "dtype",
            lambda: train.evaluate(Untouched(), Split(good.images.double(), good.labels)),
            "images must be torch.float32",
        ),
        ("container", lambda: train.evaluate(Untouched(), (1, 2)), "must be a Split"),
        (
            "shape",
            lambda: train.evaluate(models.mlp(784, 10), of_14),
            r"not take images \(1, 14, 14\): its layer 1, Linear",
        ),
        (
            "shape",
            lambda: train.evaluate(models.cnn((2,), augment=[models.Crop(20)]), of_14),
            r"its layer 0, Crop\(\), says: Crop\(20, shift=0\) needs images of 20 pixels",
        ),
        ("container", lambda: train.evaluate(Untouched, good), "model must be a Module"),
        ("dtype", lambda: train.evaluate(Untouched(), raw), "call .scaled"),
        ("shape", lambda: train.evaluate(nn.Flatten(0), good), r"logits \(B, K\)"),
        (
            "range",
            lambda: train.evaluate(Untouched(), good, batch_size=2.5),
            "batch_size must be",
        ),
    ],
    "train.batches": [
        ("count", lambda: train.batches(-1, 2), "n, the number of examples, must be"),
        ("container", lambda: train.batches(good, 2), "received Split"),
        ("range", lambda: train.batches(9, True), "batch_size must be a whole number"),
        ("container", lambda: train.batches(9, 2, 0), "generator must be"),
    ],
    "train.accuracy": [
        (
            "range",
            lambda: train.accuracy(torch.zeros(3, 2), ints(3) - 1),
            "labels must be from 0 to 1, as there are 2 logits, received -1",
        ),
        ("range", lambda: train.accuracy(torch.zeros(3, 2), ints(3) + 2), "received 2"),
        ("shape", lambda: train.accuracy(torch.zeros(3, 1), ints(3)), "K 2 or more"),
        (
            "container",
            lambda: train.accuracy([[1.0]], [0]),
            "logits must be a Tensor, received list",
        ),
        (
            "shape",
            lambda: train.accuracy(torch.zeros(3, 2), ints(3, 1)),
            r"labels \(B,\) int64",
        ),
        (
            "dtype",
            lambda: train.accuracy(torch.zeros(3, 2), torch.zeros(3)),
            "torch.float32",
        ),
        (
            "count",
            lambda: train.accuracy(torch.zeros(0, 2), ints(0)),
            "at least one example",
        ),
        (
            "range",
            lambda: train.accuracy(torch.full((2, 2), math.nan), ints(2)),
            "the logits must be numbers",
        ),
    ],
    "train.warmup_decay": [
        (
            "range",
            lambda: train.warmup_decay(-3, 10),
            "t, the step, must be.*received -3",
        ),
        ("range", lambda: train.warmup_decay(math.nan, 10), "t, the step, must be"),
        ("container", lambda: train.warmup_decay("a", 10), "t, the step, must be"),
        (
            "count",
            lambda: train.warmup_decay(12, 10),
            "step 12 of a schedule of 10 steps",
        ),
        ("count", lambda: train.warmup_decay(0, 0), "steps must be a whole number"),
        ("share", lambda: train.warmup_decay(0, 10, 1.0), "warmup, .* between 0 and 1"),
    ],
    "train.seed_everything": [
        (
            "range",
            lambda: train.seed_everything(-1),
            "seed must be a whole number, 0 to 4294967295",
        ),
        ("range", lambda: train.seed_everything(2**40), "0 to 4294967295"),
    ],
    "train.History": [("name", lambda: train.History(losses=[]), "losses")],
    "train.History.extend": [
        ("container", lambda: train.History().extend([1.0]), "must be a History")
    ],
    "models.RandomShift": [
        (
            "range",
            lambda: models.RandomShift(-1),
            "pixels must be a whole number, 0 or more",
        )
    ],
    "models.RandomShift.forward": [
        (
            "shape",
            lambda: models.RandomShift(1)(images),
            r"a tensor \(B, C, H, W\), received \(2, 8, 8\)",
        )
    ],
    "models.Crop": [
        ("range", lambda: models.Crop(2.5), "size must be a whole number"),
        ("range", lambda: models.Crop(26, -1), "shift must be"),
    ],
    "models.Crop.forward": [
        (
            "range",
            lambda: models.Crop(40)(good.images),
            r"Crop\(40, shift=0\) needs images of 40 pixels",
        ),
        (
            "range",
            lambda: models.Crop(28, 2).eval()(good.images),
            "needs images of 32 pixels",
        ),
        ("shape", lambda: models.Crop(2)(images), r"\(B, C, H, W\)"),
    ],
    "models.RandomFlip": [
        (
            "container",
            lambda: models.RandomFlip()([images]),
            r"\(B, C, H, W\), received list",
        )
    ],
    "models.RandomFlip.forward": [
        ("shape", lambda: models.RandomFlip().eval()(images), r"\(B, C, H, W\)")
    ],
    "models.mlp": [
        (
            "container",
            lambda: models.mlp(784, 9, 10, activation=None),
            "activation must be a class, as nn.ReLU is, received None",
        ),
        (
            "container",
            lambda: models.mlp(784, 9, 10, activation=F.relu),
            "activation must be a class",
        ),
        ("name", lambda: models.mlp(784, 9, 10, activation="relu"), "received 'relu'"),
        (
            "container",
            lambda: models.mlp([784, 10]),
            r"each size in mlp\(784, 100, 10\).*received list",
        ),
        (
            "container",
            lambda: models.mlp(784, 9, 10, activation=nn.ReLU()),
            "activation must be a class",
        ),
        ("count", lambda: models.mlp(784), "the number of sizes .* 2 or more"),
        ("range", lambda: models.mlp(784, 0, 10), "1 or more, received 0"),
    ],
    "models.cnn": [
        (
            "container",
            lambda: models.cnn([(16,), (32,)]),
            "each number of channels in .* received tuple",
        ),
        ("count", lambda: models.cnn(()), "groups of channels"),
        (
            "container",
            lambda: models.cnn((4,), augment=models.RandomShift(2)),
            "augment must be a list of layers",
        ),
        (
            "container",
            lambda: models.cnn((4,), augment=[models.RandomFlip]),
            "augment must be a list of layers",
        ),
        (
            "container",
            lambda: models.cnn((4,), padded="no"),
            "padded must be True or False",
        ),
        ("container", lambda: models.cnn((4,), flatten="no"), "flatten must be True"),
        ("range", lambda: models.cnn((4,), kernel=2.5), "kernel must be a whole number"),
        ("range", lambda: models.cnn((4,), size=28.0), "size must be a whole number"),
        ("share", lambda: models.cnn((4,), dropout=math.nan), "dropout must be a number"),
        ("container", lambda: models.cnn(16, 32), r"groups of channels: cnn\(\(16,\)"),
        ("count", lambda: models.cnn(), "groups of channels"),
        ("range", lambda: models.cnn((8,), kernel=4, padded=True), "odd size"),
        ("share", lambda: models.cnn((8,), dropout=-1.0), "from 0 to 1"),
        (
            "shape",
            lambda: models.cnn((8,), size=4),
            "images of 4 × 4 pixels are too small",
        ),
        (
            "count",
            lambda: models.cnn((8,), (8,), (8,), (8,), (8,)),
            "28 × 28 pixels are too small for these layers: take fewer groups",
        ),
    ],
    "models.r1a": [
        ("share", lambda: models.r1a(3.0), "dropout must be a number from 0 to 1"),
        ("share", lambda: models.r1a(math.nan), "dropout must be a number from 0 to 1"),
    ],
    "models.r1b": [
        ("share", lambda: models.r1b(-1), "dropout must be a number from 0 to 1"),
        ("share", lambda: models.r1b(True), "dropout must be .* received True"),
    ],
    "models.cosine_filters": [
        ("range", lambda: models.cosine_filters(1), "k must be a whole number, 2 or more")
    ],
    "models.fix_first": [
        ("container", lambda: models.fix_first(models.cnn), "model must be a Sequential"),
        ("shape", lambda: models.fix_first(models.mlp(784, 10)), "a convolution to fix"),
        (
            "shape",
            lambda: models.fix_first(models.cnn((4,))),
            "must be 1→48 channels|to be fixed",
        ),
        (
            "shape",
            lambda: models.fix_first(nn.Sequential(nn.Conv2d(1, 16, (3, 5)))),
            "of 3×5 must be 1→16 channels of 3×3 to be fixed",
        ),
    ],
    "muon.orthogonal": [
        (
            "range",
            lambda: orthogonal(torch.eye(3), steps=-5),
            "steps must be a whole number",
        ),
        ("dtype", lambda: orthogonal(ints(3, 3)), "needs a matrix .* float"),
    ],
    "muon.Muon": [
        ("range", lambda: muon(adam_lr=-1), "adam_lr must be a number .* received -1"),
        ("range", lambda: muon(adam_lr=math.nan), "adam_lr must be a number"),
        ("range", lambda: muon(lr="a"), "lr must be a number"),
        (
            "count",
            lambda: muon([]),
            r"Muon\(model.parameters\(\), lr=0.1\), received None",
        ),
        ("container", lambda: muon(models.cnn((2,))), "received Conv2d"),
        ("container", lambda: muon(small().named_parameters()), "received tuple"),
        ("container", lambda: muon([{"params": []}]), "the parameters.*received dict"),
        ("container", lambda: muon(nn.Linear(1, 1)), "the parameters.*received Linear"),
    ],
    "muon.Muon.add_param_group": [
        (
            "state",
            lambda: muon().add_param_group({"params": [torch.zeros(2, 2, 3, 3)]}),
            "made of all parameters at once",
        )
    ],
    "muon.Muon.step": [("container", lambda: muon().step(lambda: 1), "takes no closure")],
    "models.MirrorAverage": [
        ("container", lambda: models.MirrorAverage(models.cnn), "model must be a Module")
    ],
    "models.MirrorAverage.forward": [
        ("shape", lambda: models.MirrorAverage(Untouched())(images), r"\(B, C, H, W\)")
    ],
    "recipes.Recipe": [
        (
            "name",
            lambda: replace(recipe, dataset="MNIST"),
            "no data set 'MNIST'; there are",
        ),
        ("name", lambda: replace(recipe, loss_fn="nll"), "loss_fn must be a function"),
        ("container", lambda: replace(recipe, shuffle="no"), "shuffle must be True or"),
        (
            "shape",
            lambda: replace(recipe, moments=0.13),
            "moments must be None, or a mean",
        ),
        ("shape", lambda: replace(recipe, moments=(1, 2, 3)), "moments must be None"),
        ("count", lambda: replace(recipe, epochs=0), "epochs must be"),
        (
            "share",
            lambda: replace(recipe, warmup=2.0),
            "warmup must be a number between 0 and 1",
        ),
        (
            "container",
            lambda: replace(recipe, network=Untouched()),
            "network must be a function that makes one",
        ),
        (
            "container",
            lambda: replace(recipe, optimizer=sgd(Untouched())),
            "optimizer must be a function",
        ),
    ],
    "recipes.clothes": [
        ("container", lambda: recipes.clothes("no"), "fixed must be True or False")
    ],
    "recipes.Recipe.start": [
        ("count", lambda: recipe.start(0, 0), "examples must be"),
        ("range", lambda: recipe.start(9, None), "seed must be"),
    ],
    "recipes.splits": [
        (
            "container",
            lambda: recipes.splits("mlp-97"),
            "recipe must be a Recipe, received 'mlp-97'",
        ),
        (
            "container",
            lambda: recipes.splits(recipe, validation="no"),
            "validation must be True or False, received 'no'",
        ),
    ],
    "recipes.normalised": [
        (
            "name",
            lambda: recipes.normalised(recipes.OWN["fashion-91"], whole),
            "loaded must be fashion-mnist, .* received 'mnist'",
        ),
        (
            "container",
            lambda: recipes.normalised(recipe, whole, "no"),
            "validation must be True or False",
        ),
        ("container", lambda: recipes.normalised(recipe, raw), "what data.load gives"),
    ],
    "recipes.run": [
        ("dtype", lambda: recipes.run(recipe, good, raw, 0), "call .scaled"),
        (
            "shape",
            lambda: recipes.run(recipe, good, of_14, 0, loop=no_step),
            r"the network does not take images \(1, 14, 14\)",
        ),
        ("container", lambda: recipes.run(recipe, (1, 2), good, 0), "must be a Split"),
        ("count", lambda: recipes.run(recipe, good, good[:0], 0), "at least one example"),
        ("name", lambda: recipes.run("mlp-97", good, good, 0), "recipe must be a Recipe"),
    ],
    "records.recorded": [
        ("name", lambda: records.recorded("r5"), "no record 'r5'; there are: R1a, .*R5"),
        ("name", lambda: records.recorded("../records/R5"), "no record"),
        (
            "name",
            lambda: records.recorded("mlp-97-cuda"),
            "has not been recorded; it is made by:  python -m benchmarks.record mlp-97",
        ),
        ("container", lambda: records.recorded(None), "name must be a str"),
    ],
    "records.line": [
        ("name", lambda: records.line("race"), "the record of a recipe, received 'race'")
    ],
    "records.machine_of": [
        ("name", lambda: records.machine_of("race"), "as recorded.* received 'race'")
    ],
    "records.table": [
        ("shape", lambda: records.table(["a", "b"], [["1"]]), "have 2 texts.* received 1")
    ],
    "train.History.progress_line": [
        ("count", lambda: train.History().progress_line(3), "this history is empty"),
        ("container", lambda: train.History([1.0]).progress_line("3"), "epochs must be"),
    ],
    "figures.picture": [
        (
            "container",
            lambda: figures.picture(plt.figure(), ALT, 5),
            "caption must be a str",
        ),
        (
            "container",
            lambda: figures.picture(plt.figure(), ALT, None, "no"),
            "measured must",
        ),
        ("name", lambda: figures.picture(plt.figure(), " " * 30), "alt must say"),
        (
            "container",
            lambda: figures.picture(plt.subplots(), ALT),
            "fig must be a Figure, as fig, ax = plt.subplots",
        ),
        (
            "name",
            lambda: figures.picture(plt.figure(), "loss"),
            "alt must say what is to be seen",
        ),
        ("container", lambda: figures.picture(plt.figure(), None), "alt must say"),
    ],
    "figures.show_picture": [
        (
            "container",
            lambda: figures.show_picture(plt.figure()),
            "must be a Picture: show",
        )
    ],
    "figures.show": [
        ("container", lambda: figures.show(plt, ALT), "fig must be a Figure")
    ],
    "figures.show_images": [
        ("container", lambda: figures.show_images(raw, alt=ALT), "split.images")
    ],
    "figures.image_grid": [
        (
            "count",
            lambda: grid(torch.zeros(5000, 4, 4)),
            "1000 images at most.*received 5000",
        ),
        ("range", lambda: grid(images, columns=100_000), "columns must be .* 1 to 100"),
        ("range", lambda: grid(images - 0.5), "values below 0 need signed=True"),
        ("container", lambda: grid(images, signed="no"), "signed must be True or False"),
        ("container", lambda: grid(images, caption=5), "caption must be a str"),
        ("container", lambda: grid(raw), "split.images"),
        ("shape", lambda: grid(torch.zeros(2, 3, 8, 8)), "one channel each"),
        ("shape", lambda: grid(torch.zeros(8, 8)), "one channel each"),
        ("count", lambda: grid(images[:0]), "one channel each"),
        ("count", lambda: grid(images, titles=["a"]), "as many titles, received 1"),
        ("container", lambda: grid(images, titles="ab"), "as many titles"),
        ("dtype", lambda: grid(images.to(torch.complex64)), "real numbers"),
        ("range", lambda: grid(images + math.nan), "without nan and inf"),
        ("range", lambda: grid(images, columns=0), "columns must be"),
        ("range", lambda: grid(images, size=-1), "size, in inches, must be"),
    ],
    "figures.curves": [
        (
            "container",
            lambda: curves({"a": [1.0]}, logy="no"),
            "logy must be True or False",
        ),
        ("container", lambda: curves([1, 2]), "histories must be a dict"),
        ("count", lambda: curves({}), "histories must be a dict"),
        ("count", lambda: curves({"a": []}), "a curve is a list of numbers"),
        (
            "name",
            lambda: curves({"a": train.History(loss=[1.0])}, "los"),
            r"no numbers under 'los'; this history has \['loss'\]",
        ),
        (
            "shape",
            lambda: curves({"a": torch.zeros(3, 2)}),
            "a curve is a list of numbers",
        ),
        ("dtype", lambda: curves({"a": "abc"}), "a curve is a list of numbers"),
        ("range", lambda: curves({"a": [math.nan]}), "a curve is a list of numbers"),
        ("range", lambda: curves({"a": [-1.0]}, logy=True), "numbers above 0"),
    ],
    "figures.confusion": [
        (
            "container",
            lambda: confusion(ints(2), ints(2), set("abc")),
            "class_names must be a list of words, in order, received set",
        ),
        ("container", lambda: confusion(ints(2), ints(2), 3), "class_names must be"),
        ("container", lambda: confusion(ints(2), ints(2), None), "class_names must be"),
        ("container", lambda: confusion(ints(2), ints(2), [0, 1]), "class_names must be"),
        ("count", lambda: confusion(ints(0), ints(0), []), "class_names must be"),
        ("shape", lambda: confusion(ints(4, 1), ints(4)), r"must both be \(N,\)"),
        ("count", lambda: confusion(ints(4), ints(1)), r"must both be \(N,\)"),
        ("range", lambda: confusion(ints(2) - 1, ints(2)), "whole numbers from 0 to 3"),
        (
            "dtype",
            lambda: confusion(ints(2), torch.zeros(2, requires_grad=True)),
            "whole numbers",
        ),
    ],
    "detector.check_training": [
        ("container", lambda: detected(loss_fn="ce"), "loss_fn: expected a function"),
        ("container", lambda: detected(loss_fn=None), "loss_fn: expected a function"),
        (
            "container",
            lambda: detected(loss_fn=nn.CrossEntropyLoss),
            "expected a function",
        ),
        (
            "count",
            lambda: detected(good[:0]),
            "train: needs 16 images at least, received 0",
        ),
        (
            "count",
            lambda: detected(good[:1]),
            "train: needs 16 images at least, received 1",
        ),
        (
            "count",
            lambda: detected(evaluate=train.evaluate, test=good[:1]),
            "test: needs 16 images at least",
        ),
        (
            "container",
            lambda: detected(evaluate=lambda m, t: None, test=twenty),
            "evaluate: returned None; let it return",
        ),
        ("container", lambda: detected([]), "train: expected a Split"),
    ],
    "interactive.stepper": [
        (
            "container",
            lambda: interactive.stepper({1: picture(), 2: picture()}, "k", start=[1]),
            r"start \[1\] is not one of",
        ),
        (
            "container",
            lambda: interactive.stepper({1: picture(), 2: picture()}, "k", caption=5),
            "caption must be a str, or None, received 5",
        ),
        (
            "container",
            lambda: interactive.stepper([picture(), picture()], "k"),
            "frames must be a dict",
        ),
        ("count", lambda: interactive.stepper({1: picture()}, "k"), "two frames or more"),
        (
            "name",
            lambda: interactive.stepper({1: picture(), "1": picture()}, "k"),
            "two frames read the same, received '1'",
        ),
        (
            "name",
            lambda: interactive.stepper({1: picture(), 2: picture()}, "k", start=3),
            "start 3 is not one of",
        ),
    ],
    "interactive.quiz": [
        (
            "name",
            lambda: interactive.quiz("q", {1: "x", "1": "y"}, 1),
            "two choices read the same",
        ),
        (
            "container",
            lambda: interactive.quiz(None, {"a": "x", "b": "y"}, "a"),
            "question must be words, received None",
        ),
        (
            "name",
            lambda: interactive.quiz(" ", {"a": "x", "b": "y"}, "a"),
            "must be words",
        ),
        (
            "container",
            lambda: interactive.quiz("q", {"a": "x", "b": "y"}, ["a"]),
            "is not one of",
        ),
        (
            "container",
            lambda: interactive.quiz("q", ["a", "b"], "a"),
            "answers must be a dict",
        ),
        (
            "container",
            lambda: interactive.quiz("q", {"a": None, "b": "x"}, "a"),
            "needs a reason",
        ),
        (
            "name",
            lambda: interactive.quiz("q", {"a": "x", "b": "y"}, "c"),
            "'c' is not one of",
        ),
    ],
    "checkpoint.save": [
        (
            "container",
            lambda: checkpoint.save({"a": 1}, "/tmp/lessons-x.pt"),
            r"path must be that of a file: save\(path, state\), received dict",
        ),
        (
            "container",
            lambda: checkpoint.save("/tmp/lessons-x.pt", Untouched()),
            "such as model.state_dict.* not Untouched",
        ),
        (
            "container",
            lambda: checkpoint.save("/tmp/lessons-x.pt", {"a": lambda: 1}),
            "was not written",
        ),
    ],
    "checkpoint.load": [
        (
            "name",
            lambda: checkpoint.load("/nowhere/a.pt"),
            "there is no checkpoint /nowhere/a.pt",
        ),
        ("name", lambda: checkpoint.load("/tmp"), "cannot be read: Is a directory"),
        (
            "container",
            lambda: checkpoint.load(5),
            r"path must be that of a file: load\(path\), received 5",
        ),
    ],
    "checkpoint.fit_with_checkpoint": [
        ("count", lambda: with_checkpoint(epochs=0), "epochs must be"),
        ("dtype", lambda: with_checkpoint(split=raw), "call .scaled"),
        ("container", lambda: with_checkpoint(split=[1]), "must be a Split"),
        ("container", lambda: with_checkpoint(None), "path must be that of a file"),
        ("container", lambda: with_checkpoint(generator=0), "generator must be a Gener"),
        (
            "container",
            lambda: with_checkpoint(optimizer=torch.optim.SGD),
            "optimizer must be an Optimizer, received the class SGD",
        ),
        ("container", lambda: with_checkpoint(about=5), "about must be a dict, such as"),
        ("container", lambda: with_checkpoint(progress="no"), "progress must be True"),
        ("container", lambda: with_checkpoint(model=small), "must be a Module"),
        ("container", lambda: with_checkpoint(test=[1]), "must be a Split"),
        ("container", lambda: with_checkpoint(scheduler=3), "schedule of this optimizer"),
        ("range", lambda: with_checkpoint(batch_size=0), "batch_size must be"),
        (
            "shape",
            lambda: with_checkpoint(split=of_14, model=small()),
            r"not take images \(1, 14, 14\)",
        ),
        (
            "state",
            lambda: with_checkpoint(optimizer=sgd(Untouched())),
            "none of the model's parameters",
        ),
    ],
    "distributed.group": [
        (
            "device",
            lambda: distributed.group("gpu").__enter__(),
            'device must be "cuda", "cpu" or None, received \'gpu\'',
        )
    ],
    "distributed.sum_over_ranks": [
        (
            "container",
            lambda: distributed.sum_over_ranks("a"),
            "what is summed must be a number, received 'a'",
        )
    ],
    "fit.fit": [
        (
            "state",
            lambda: fit(optimizer=sgd(Untouched()), loop=scale_fit.fit),
            "none of the model's parameters",
        )
    ],
    "fit.evaluate": [
        ("container", lambda: scale_fit.evaluate(Untouched(), (1, 2)), "must be a Split")
    ],
    "graph.graphed": [
        ("container", lambda: graph.graphed(None), "step must be a function without arg"),
        ("container", lambda: graph.graphed(small()), "received Sequential"),
        ("count", lambda: graph.graphed(print, 2.5), "warmup must be a whole number"),
    ],
    "graph.preserve_state": [
        (
            "container",
            lambda: graph.preserve_state(models.mlp, None).__enter__(),
            "model must be a Module, received function",
        ),
        (
            "container",
            lambda: graph.preserve_state(small(), None).__enter__(),
            "optimizer must be an Optimizer, received None",
        ),
        (
            "container",
            lambda: graph.preserve_state(m := small(), sgd(m), 3).__enter__(),
            "what else is put back must be a Tensor, received 3",
        ),
    ],
    "run.main": [
        ("name", lambda: command("mnist"), "invalid choice: 'mnist'"),
        ("count", lambda: command("R5", "--epochs", "0"), "0 is not from 1 to"),
        (
            "range",
            lambda: command("R5", "--seed", "-1"),
            "-1 is not from 0 to 4294967295",
        ),
        (
            "range",
            lambda: command("R5", "--epochs", "1e9"),
            "invalid whole number value: '1e9'",
        ),
        (
            "name",
            lambda: command("R5", "--save", "a", "--json", "./a"),
            "need a file each",
        ),
    ],
}


def public_functions():
    """Every function, class and method without an underscore, as module.name."""
    for module_name in MODULES.split():
        module = importlib.import_module(f"lessons_src.{module_name}")
        short = module_name.removeprefix("scale.")
        for name, thing in vars(module).items():
            is_own = getattr(thing, "__module__", None) == module.__name__
            is_error = inspect.isclass(thing) and issubclass(thing, Exception)
            if name[0] == "_" or not is_own or not callable(thing) or is_error:
                continue
            yield f"{short}.{name}"
            for part, method in vars(thing).items() if inspect.isclass(thing) else ():
                is_method = inspect.isfunction(method) or isinstance(method, property)
                if part[0] != "_" and is_method and method is not F.cross_entropy:
                    yield f"{short}.{name}.{part}"


LINES = [(function, *line) for function, lines in MISTAKES.items() for line in lines]


@pytest.mark.parametrize(
    ("function", "kind", "mistake", "words"),
    LINES,
    ids=[f"{number}-{line[0]}-{line[1]}" for number, line in enumerate(LINES)],
)
def test_a_mistake_is_named(function, kind, mistake, words):
    """An error with these words, and not a wrong result, before anything is done."""
    errors = (ValueError, TypeError, AttributeError, RuntimeError, OSError)
    with pytest.raises(errors, match=words):
        mistake()
    plt.close("all")


def test_every_public_function_has_its_line():
    """A new one needs a line in MISTAKES, or a reason why nobody can get it wrong."""
    table, inside = {*MISTAKES, *NOTHING_TO_GET_WRONG.split()}, INSIDE.split()
    functions = set(public_functions())
    covered = {f for f in functions if f in inside or f.split(".")[0] in inside}
    missing = functions - covered - table
    assert not missing, f"no line in MISTAKES for {sorted(missing)}"
    gone = (table | {f for f in inside if "." in f}) - functions
    assert not gone, f"these lines are of functions that are not there: {sorted(gone)}"
    assert {kind for _, kind, *_ in LINES} == set(KINDS)


def test_what_is_inside_is_not_used_by_the_lessons():
    """Functions without checks of their own are called by lessons_src alone."""
    pages = [*ROOT.glob("lessons/*.ipynb"), *ROOT.glob("book/*.ipynb")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for name in INSIDE.split():
        module, _, function = name.rpartition(".")
        if module in ("figures", "interactive", "checkpoint", "distributed", "fit"):
            assert f"{module}.{function}(" not in text, name
