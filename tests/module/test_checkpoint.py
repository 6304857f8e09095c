"""Checkpoints: whole or not at all, every byte checked, resumed to the same numbers."""

import copy
import errno
import io
import math
import os
import random
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler as lrs
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lessons_src import files, train
from lessons_src.data import Split
from lessons_src.models import RandomShift
from lessons_src.scale import checkpoint
from lessons_src.scale.checkpoint import CheckpointError, fit_with_checkpoint


@pytest.fixture
def split():
    images = torch.randn(130, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


def made(seed=0):
    """A model with all that has a state: batch norm, dropout, augmentation; Adam; a
    schedule."""
    train.seed_everything(seed)
    model = nn.Sequential(
        RandomShift(1),
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(144, 3),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    rate = partial(train.warmup_decay, steps=4 * 9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    return model, optimizer, scheduler, torch.Generator().manual_seed(0)


def fitted(split, epochs, path=None, seed=0, **options):
    """History and model of a training, by `fit_with_checkpoint` where there is a path."""
    model, optimizer, scheduler, generator = made(seed)
    options = {
        "batch_size": 16,
        "test": split[:40],
        "scheduler": scheduler,
        "generator": generator,
        "progress": False,
    } | options
    optimizer = options.pop("optimizer", optimizer)
    if path is None:
        return train.fit(model, split, epochs, optimizer, **options), model
    return fit_with_checkpoint(path, model, split, epochs, optimizer, **options), model


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


STATE = {
    "weights": torch.arange(6.0).view(2, 3),
    "epoch": 3,
    "name": "a",
    "none": None,
    "lists": [1.5, {"k": torch.ones(2, dtype=torch.int64)}],
}


def test_what_is_saved_is_loaded(tmp_path):
    """Tensors, numbers, strings, None and their lists and dicts, into a folder that is
    made."""
    path = tmp_path / "new" / "folder" / "a.pt"
    checkpoint.save(path, STATE)
    got = checkpoint.load(path)
    assert torch.equal(got["weights"], STATE["weights"]) and got["lists"][0] == 1.5
    assert (got["epoch"], got["name"], got["none"]) == (3, "a", None)
    assert os.listdir(path.parent) == ["a.pt"]
    assert torch.load(path, weights_only=True)["epoch"] == 3  # no format of our own


def test_a_flipped_byte_is_never_loaded_in_silence(tmp_path):
    """Any byte of the file: an error that says so, or the numbers are still the right
    ones."""
    path = tmp_path / "a.pt"
    weights = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    checkpoint.save(path, {"weights": weights})
    whole, refused = path.read_bytes(), 0
    draw = random.Random(0)
    for place in sorted(draw.sample(range(len(whole)), 300)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert torch.equal(checkpoint.load(path)["weights"], weights), place
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 200
    path.write_bytes(whole)
    # Plain torch.load takes a flipped byte among the numbers: the reason for our check.
    middle = whole.index(weights.numpy().tobytes()) + 4000
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :])
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], weights)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"no zip at all", b"PK\x03\x04 and then nothing"]
)
def test_a_file_that_is_none(tmp_path, content):
    """Empty, foreign, cut short: named, with what to do."""
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt is damaged .* Delete it"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "b.pt")


def test_a_checkpoint_cut_short_is_refused(tmp_path):
    """A copy that broke off at any length."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


class Evil:
    """Where it is unpickled, a folder is made."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_with_code_is_not_run(tmp_path):
    """A pickled call is refused; nothing of it happens."""
    path = tmp_path / "a.pt"
    torch.save({"weights": Evil(tmp_path / "was run")}, path)
    with pytest.raises(CheckpointError, match="more than numbers"):
        checkpoint.load(path)
    assert not (tmp_path / "was run").exists()


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    """The write is interrupted in the middle: the checkpoint before it can still be read."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left.*before it is unharmed"):
        checkpoint.save(path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"epoch": 1} and os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_ctrl_c_while_a_checkpoint_is_written_is_a_ctrl_c(at, tmp_path, monkeypatch):
    """Not "free some space", and not the end of the process: torch.save into a file
    makes a RuntimeError of it, and aborts where the file is closed meanwhile."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"epoch": 1})
    writes = iter(range(1, 100))

    class Interrupted(io.FileIO):
        def write(self, part):
            if next(writes) == at:
                raise KeyboardInterrupt
            return super().write(part)

    monkeypatch.setattr(files, "open", Interrupted, raising=False)
    with suppress(KeyboardInterrupt):  # or it came too late, and all is written
        checkpoint.save(path, {"epoch": 2, "weights": torch.zeros(100_000)})
    monkeypatch.undo()
    epoch = 1 if next(writes) == at + 1 else 2
    assert checkpoint.load(path)["epoch"] == epoch and os.listdir(tmp_path) == ["a.pt"]


def test_an_unwritable_folder_is_named(tmp_path):
    """A folder under a regular file, which not even root can make."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"could not write .*nothing was written"):
        checkpoint.save(tmp_path / "file" / "a.pt", STATE)


class Interrupted(Exception):
    pass


def interrupt(step):
    """Raise in this step of training, as Ctrl-C or a power cut would."""
    count = iter(range(1, step + 1))

    def counted(*args):
        if next(count) == step:
            raise Interrupted

    return register_optimizer_step_pre_hook(counted)


def test_interrupted_and_resumed_is_the_same_to_the_last_bit(tmp_path, split):
    """Ended in the middle of epoch 3 and started again: the same history, weights,
    buffers."""
    whole, model = fitted(split, 4)
    path = tmp_path / "a.pt"
    hook = interrupt(2 * 9 + 5)
    with pytest.raises(Interrupted):
        fitted(split, 4, path)
    hook.remove()
    assert len(checkpoint.load(path)["history"]["loss"]) == 2
    resumed, again = fitted(split, 4, path, seed=99)  # other start values must not matter
    resumed.seconds, whole.seconds = [], []
    assert resumed == whole and equal(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("part", ["order", "random", "optimizer", "scheduler", "model"])
def test_each_part_of_the_state_is_needed(tmp_path, split, part):
    """Take one part out of what is put back: the numbers come out differently."""
    whole, _ = fitted(split, 4)
    path = tmp_path / "a.pt"
    fitted(split, 2, path)
    state = checkpoint.load(path)
    fresh = dict(zip(("model", "optimizer", "scheduler"), made(7), strict=False))
    other = torch.Generator().manual_seed(5).get_state()
    if part in fresh:
        state["parts"][part] = fresh[part].state_dict()
    elif part == "order":
        state["order"] = other
    else:
        state["random"][0]["cpu"] = other
    checkpoint.save(path, state)
    resumed, _ = fitted(split, 4, path)
    assert resumed.loss[:2] == whole.loss[:2] and resumed.loss[2:] != whole.loss[2:]


def test_a_training_that_is_done_is_not_done_again(tmp_path, split):
    """All epochs kept: it returns at once, with the trained weights."""
    path = tmp_path / "a.pt"
    whole, model = fitted(split, 2, path)
    again, other = fitted(split, 2, path, seed=3)
    assert again == whole and equal(other.state_dict(), model.state_dict())


def test_another_padding_is_another_training(tmp_path, split):
    """The shapes of all weights are the same."""

    def resume(epochs, padding):
        convolution = nn.Conv2d(1, 4, 3, padding=padding)
        model = nn.Sequential(convolution, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        fit_with_checkpoint(tmp_path / "a.pt", model, split, epochs, sgd(model))

    resume(1, padding=0)
    with pytest.raises(CheckpointError, match=r"padding.: .0, 0.*not .*1, 1"):
        resume(2, padding=1)


@pytest.mark.parametrize("later", ["no test split", "a test split", "another"])
def test_the_test_split_is_part_of_a_training(tmp_path, split, later):
    """Else the accuracy of one epoch would be printed as that of another."""
    path, other = tmp_path / "a.pt", Split(split.images[:40], (split.labels[:40] + 1) % 3)
    tests = {
        "no test split": (split[:40], None),
        "a test split": (None, split[:40]),
        "another": (split[:40], other),
    }
    first, second = tests[later]
    fitted(split, 1, path, test=first)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="its test split is"):
        fitted(split, 2, path, test=second)
    assert path.read_bytes() == before


OTHERS = {
    "batch size": {"batch_size": 17},
    "shuffling": {"generator": torch.Generator().manual_seed(1)},
    "schedule": {"scheduler": None},
    "loss": {"loss_fn": partial(torch.nn.functional.cross_entropy, label_smoothing=0.1)},
    "data": {"split": 1},
    "optimizer": {"optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, split, what):
    """Whoever calls: what differs is named, and model, optimizer and file stay
    untouched."""
    path, options = tmp_path / "a.pt", dict(OTHERS[what])
    fitted(split, 1, path)
    before = path.read_bytes()
    if options.pop("split", None):  # as many examples, one of another class
        labels = split.labels.clone()
        labels[0] = (labels[0] + 1) % 3
        split = Split(split.images, labels)
    with pytest.raises(
        CheckpointError, match=f"another training: its {what} is .*Delete"
    ):
        fitted(split, 2, path, **options)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "setting", [{"lr": 9.0}, {"weight_decay": 0.5}, {"betas": (0.5, 0.9)}]
)
def test_another_rate_is_another_training(tmp_path, split, setting):
    """The rate of the file was once taken in silence."""
    path = tmp_path / "a.pt"
    fitted(split, 1, path, scheduler=None)
    other = torch.optim.AdamW(made()[0].parameters(), **{"lr": 0.01} | setting)
    with pytest.raises(CheckpointError, match="its optimizer is"):
        fitted(split, 2, path, scheduler=None, optimizer=other)


def test_another_length_of_the_schedule_is_another_training(tmp_path, split):
    """A rate that reaches zero with the last epoch belongs to its number of epochs."""
    path = tmp_path / "a.pt"
    fitted(split, 1, path)
    model, optimizer, _, generator = made()
    longer = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(train.warmup_decay, steps=999)
    )
    with pytest.raises(CheckpointError, match="its schedule is"):
        fitted(split, 2, path, scheduler=longer)


# A training is described by all that its caller gave ---------------------------------


def sgd(model, **settings):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1} | settings)


def adam(model, **settings):
    return torch.optim.AdamW(model.parameters(), **{"lr": 0.1} | settings)


def two_groups(model, first, second):
    """Each layer has a rate of its own, by the order in which they are named."""
    layers = [
        {"params": model[first].parameters()},
        {"params": model[second].parameters()},
    ]
    layers[0]["lr"] = 0.01
    return torch.optim.SGD(layers, lr=0.1)


def in_turn(optimizer, gamma):
    """Two epochs of a level rate, then one that falls."""
    parts = [lrs.ConstantLR(optimizer, 1.0, 2), lrs.ExponentialLR(optimizer, gamma)]
    return lrs.SequentialLR(optimizer, parts, milestones=[2])


def given(
    optimizer=sgd, schedule=None, loss_fn=cross_entropy, between=nn.ReLU, frozen=()
):
    """A small model, and what `fit_with_checkpoint` is given beside it."""
    torch.manual_seed(1)
    layers = [nn.Flatten(), nn.Linear(64, 8), between(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers)
    for number in frozen:
        model[number].requires_grad_(False)
    made = optimizer(model)
    options = {"scheduler": schedule and schedule(made), "loss_fn": loss_fn}
    return model, made, options | {"progress": False}


def resumed(path, split, epochs, model, optimizer, options):
    return fit_with_checkpoint(path, model, split, epochs, optimizer, **options)


class Shifted(RandomShift):
    """On what is no image any more, nothing is shifted."""

    def forward(self, x):
        return x


WEIGHT = torch.tensor([1.0, 2.0, 3.0])
weighted = partial(cross_entropy, weight=WEIGHT)
CHANGES = {
    "fewer parameters": (
        "list of parameters",
        {},
        {"optimizer": lambda model: sgd(model[3])},
    ),
    "fewer parameters, Adam": (
        "list of parameters",
        {"optimizer": adam},
        {"optimizer": lambda model: adam(model[3])},
    ),
    "groups in another order": (
        "list of parameters",
        {"optimizer": lambda model: two_groups(model, 1, 3)},
        {"optimizer": lambda model: two_groups(model, 3, 1)},
    ),
    "a rate that is a tensor": (
        "optimizer",
        {"optimizer": partial(adam, lr=torch.tensor(0.01))},
        {"optimizer": partial(adam, lr=torch.tensor(0.02))},
    ),
    "StepLR": (
        "schedule",
        {"schedule": lambda optimizer: lrs.StepLR(optimizer, 1, 0.1)},
        {"schedule": lambda optimizer: lrs.StepLR(optimizer, 1, 0.5)},
    ),
    "MultiStepLR": (
        "schedule",
        {"schedule": lambda optimizer: lrs.MultiStepLR(optimizer, [3, 8])},
        {"schedule": lambda optimizer: lrs.MultiStepLR(optimizer, [3, 9])},
    ),
    "CosineAnnealingLR": (
        "schedule",
        {"schedule": lambda optimizer: lrs.CosineAnnealingLR(optimizer, 20)},
        {"schedule": lambda optimizer: lrs.CosineAnnealingLR(optimizer, 40)},
    ),
    "CosineAnnealingWarmRestarts": (
        "schedule",
        {"schedule": lambda optimizer: lrs.CosineAnnealingWarmRestarts(optimizer, 2)},
        {"schedule": lambda optimizer: lrs.CosineAnnealingWarmRestarts(optimizer, 3)},
    ),
    "OneCycleLR": (
        "schedule",
        {"schedule": lambda optimizer: lrs.OneCycleLR(optimizer, 0.1, 20)},
        {"schedule": lambda optimizer: lrs.OneCycleLR(optimizer, 0.1, 40)},
    ),
    "OneCycleLR, Adam": (
        "schedule",
        {"optimizer": adam, "schedule": lambda o: lrs.OneCycleLR(o, 0.1, 20)},
        {"optimizer": adam, "schedule": lambda o: lrs.OneCycleLR(o, 0.1, 40)},
    ),
    "SequentialLR": (
        "schedule",
        {"schedule": partial(in_turn, gamma=0.9)},
        {"schedule": partial(in_turn, gamma=0.8)},
    ),
    "a loss module": (
        "loss",
        {"loss_fn": nn.CrossEntropyLoss()},
        {"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.3)},
    ),
    "a loss module with weights": (
        "loss",
        {"loss_fn": nn.CrossEntropyLoss(weight=WEIGHT)},
        {"loss_fn": nn.CrossEntropyLoss(weight=2 * WEIGHT)},
    ),
    "another activation": ("list of layers", {}, {"between": nn.Tanh}),
    "a setting of a layer": (
        "list of layers",
        {"between": partial(nn.Dropout, 0.3)},
        {"between": partial(nn.Dropout, 0.9)},
    ),
    "a setting of a layer of the course": (
        "list of layers",
        {"between": partial(Shifted, 1)},
        {"between": partial(Shifted, 0)},
    ),
    "a frozen layer": ("list of frozen parameters", {}, {"frozen": [1]}),
    "a partial with weights": (
        "loss",
        {"loss_fn": weighted},
        {"loss_fn": partial(cross_entropy, weight=2 * WEIGHT)},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_refused_and_what_is_not_goes_on(tmp_path, split, change):
    """By new objects and by the old ones, to the weights of a training without a break;
    with one thing changed it is named, and nothing is."""
    path = tmp_path / "a.pt"
    what, before, after = CHANGES[change]
    whole = given(**before)
    torch.manual_seed(0)
    resumed(tmp_path / "whole.pt", split, 3, *whole)
    first = given(**before)
    torch.manual_seed(0)
    resumed(path, split, 1, *first)
    resumed(path, split, 2, *first)  # the same objects: the cell is run once more
    content = path.read_bytes()

    other = given(**after)
    weights = copy.deepcopy(other[0].state_dict())
    with pytest.raises(CheckpointError, match=f"another training: its {what} is"):
        resumed(path, split, 3, *other)
    assert equal(other[0].state_dict(), weights) and path.read_bytes() == content

    again = given(**before)
    resumed(path, split, 3, *again)
    assert equal(again[0].state_dict(), whole[0].state_dict())


def test_a_lambda_needs_about(tmp_path, split):
    """Two lambdas look alike; what the caller adds tells them apart."""
    path = tmp_path / "a.pt"
    threefold = given(loss_fn=lambda logits, y: 3 * cross_entropy(logits, y))
    model, optimizer, options = threefold
    options["about"] = {"factor": WEIGHT}
    resumed(path, split, 1, model, optimizer, options)
    resumed(path, split, 2, model, optimizer, options)
    options["about"] = {"factor": 2}
    with pytest.raises(CheckpointError, match="its factor is"):
        resumed(path, split, 3, model, optimizer, options)


class Refuses(torch.optim.SGD):
    """An optimizer whose load_state_dict fails, after it has changed a rate."""

    refuses = False

    def load_state_dict(self, state):
        super().load_state_dict(state)
        if state["state"] and self.refuses:
            self.refuses = False
            raise KeyError("momentum_buffer")


def test_a_state_that_does_not_fit_leaves_everything_as_it_was(tmp_path, split):
    """The model is put back first, and would be overwritten when the next part fails."""
    path = tmp_path / "a.pt"

    def stepped(optimizer):
        return lrs.StepLR(optimizer, 1, 0.5)

    parts = {"optimizer": lambda m: Refuses(m.parameters(), 0.1, 0.9)}
    parts["schedule"] = stepped
    resumed(path, split, 1, *given(**parts))
    model, optimizer, options = given(**parts)
    everything = [model, optimizer, options["scheduler"]]
    before = copy.deepcopy([part.state_dict() for part in everything])
    optimizer.refuses = True
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match="does not fit: its optimizer was refused"):
        resumed(path, split, 2, model, optimizer, options)
    assert equal(model.state_dict(), before[0]) and path.read_bytes() == content
    assert [part.state_dict() for part in everything[1:]] == before[1:]


def test_an_old_file_that_says_too_little_is_refused(tmp_path, split):
    """Before, neither layers nor the test split were written down."""
    path = tmp_path / "a.pt"
    fitted(split, 1, path)
    state = checkpoint.load(path)
    del state["training"]["list of layers"]
    checkpoint.save(path, state)
    with pytest.raises(CheckpointError, match="an earlier version of the course.*Delete"):
        fitted(split, 2, path)


def test_a_refusal_changes_nothing(tmp_path, split):
    """More epochs than asked for, another network, a file of something else: the model
    that was given keeps its weights, and the file its bytes."""
    path = tmp_path / "a.pt"
    fitted(split, 3, path)
    before = path.read_bytes()
    model, optimizer, scheduler, generator = made(5)
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    options = {"batch_size": 16, "scheduler": scheduler, "generator": generator}
    options["test"] = split[:40]
    with pytest.raises(CheckpointError, match="holds 3 epochs, more than the 1 that are"):
        fit_with_checkpoint(path, model, split, 1, optimizer, **options)
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(CheckpointError, match="its network is"):
        fit_with_checkpoint(path, small, split, 4, optimizer, **options)
    with pytest.raises(CheckpointError, match="its about is"):
        fit_with_checkpoint(
            path, model, split, 4, optimizer, about={"about": 1}, **options
        )
    assert equal(model.state_dict(), weights) and path.read_bytes() == before
    checkpoint.save(path, model.state_dict())
    with pytest.raises(CheckpointError, match="no checkpoint of a training"):
        fit_with_checkpoint(path, model, split, 4, optimizer, **options)


def test_a_loss_that_diverges_keeps_the_epochs_before(tmp_path, split):
    """TrainingError passes through; the file still holds the last whole epoch."""
    path = tmp_path / "a.pt"
    fitted(split, 1, path)
    state = checkpoint.load(path)
    state["parts"]["model"]["6.weight"][0, 0] = math.inf
    checkpoint.save(path, state)
    with pytest.raises(train.TrainingError):
        fitted(split, 2, path)
    assert len(checkpoint.load(path)["history"]["loss"]) == 1


def test_progress_is_a_line_an_epoch(tmp_path, split, capsys):
    """Counted over the whole training, also where it is resumed."""
    path = tmp_path / "a.pt"
    fitted(split, 1, path, progress=True)
    fitted(split, 3, path, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines] == ["epoch 1/1", "epoch 2/3", "epoch 3/3"]
