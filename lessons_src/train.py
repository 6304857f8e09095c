"""The training loop that the lesson on multilayer perceptrons writes, and its evaluation.

What is refused before anything is trained stands in `train_checks`.
"""

import math
import platform
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_src.data import Split
from lessons_src.expect import (
    expect,
    expect_between,
    expect_bool,
    expect_int,
    expect_type,
)
from lessons_src.train_checks import (
    check_class,
    check_dtype,
    check_fit,
    check_generator,
    check_pair,
    check_split,
    device_of,
    divergence,
    with_loss_checks,
)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


@dataclass
class History:
    """What `fit` measured: one entry for each epoch.

    loss, accuracy (0 to 1): means over the training examples, while the network was
    learning. seconds: of training alone. test_loss, test_accuracy: after the epoch,
    where a test split was given.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def extend(self, later: "History") -> None:
        """Append the epochs of another history."""
        expect_type("what is appended", later, History)
        for name, values in vars(later).items():
            getattr(self, name).extend(values)

    def progress_line(self, epochs: int) -> str:
        """The newest epoch in one line: `epoch 2/5  loss 0.123  train 96.30%  1.2 s`."""
        expect_int("epochs", epochs)
        if not self.loss:
            raise ValueError("there is no last epoch: this history is empty")
        line = f"epoch {len(self.loss)}/{epochs}  loss {self.loss[-1]:.3f}"
        line += f"  train {self.accuracy[-1]:.2%}"
        if self.test_accuracy:
            line += f"  test {self.test_accuracy[-1]:.2%}"
        return line + f"  {self.seconds[-1]:.1f} s"


def fit(
    model: nn.Module,
    split: Split,
    epochs: int,
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int = 64,
    scheduler=None,
    loss_fn=F.cross_entropy,
    test: Split | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> History:
    """Train `model` on `split` and return what was measured.

    split: images (N, ...) float, labels (N,) int64, on the model's device. optimizer:
    over model.parameters(). scheduler: stepped after every batch. test: evaluated
    after every epoch. generator: shuffles the examples in every epoch; without one
    they keep their order. All state is in what the caller holds: four calls of one
    epoch, with the same model, optimizer, scheduler and generator, train exactly like
    one call of four. TrainingError on a loss that is not finite; ValueError on input
    of the wrong form, before anything is trained.
    """
    check_fit(
        model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
    )
    expect_bool("progress", progress)
    loss_fn = with_loss_checks(loss_fn, split)
    history = History()
    with history_on_error(history):  # also where it is interrupted
        for epoch in range(1, epochs + 1):
            start, total_loss, correct = time.perf_counter(), 0.0, 0
            model.train()
            order = batches(len(split), batch_size, generator)
            for number, index in enumerate(order, 1):
                x, y = split.images[index], split.labels[index]  # (B, ...), (B,)
                logits = model(x)  # (B, K)
                loss = loss_fn(logits, y)
                if not loss.isfinite():
                    raise TrainingError(divergence(loss.item(), epoch, number, optimizer))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                total_loss += loss.item() * len(y)  # a short last batch weighs less
                correct += (logits.argmax(1) == y).sum().item()
            history.seconds.append(time.perf_counter() - start)
            history.loss.append(total_loss / len(split))
            history.accuracy.append(correct / len(split))
            if test is not None:
                test_loss, test_accuracy = evaluate(model, test, loss_fn=loss_fn)
                history.test_loss.append(test_loss)
                history.test_accuracy.append(test_accuracy)
            if progress:
                print(history.progress_line(epochs))
    return history


@contextmanager
def history_on_error(history: History):
    """Where the training inside ends in an error, the error holds the epochs before it."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        error.history = history
        how = "import sys; history = sys.last_value.history"
        if isinstance(error, KeyboardInterrupt):
            done = f"{len(history.loss)} whole epochs were trained"
            error.args = (f"{done}: {how}",)
        elif history.loss and how not in str(getattr(error, "__notes__", "")):
            error.add_note(f"The epochs before it are kept: {how}")
        raise


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, *, batch_size=1000, loss_fn=F.cross_entropy):
    """Mean loss and accuracy (0 to 1) over the whole split, in evaluation mode.

    The model's training mode is put back afterwards. loss_fn gives a batch's mean
    loss; each batch weighs as many examples as it has. The split may be on another
    device.
    """
    check_split(split)
    expect_type("model", model, nn.Module)
    check_dtype(model, split)
    loss_fn = with_loss_checks(loss_fn, split)
    was_training, device = model.training, device_of(model, split)
    model.eval()
    total_loss, correct = 0.0, 0
    try:
        for index in batches(len(split), batch_size):
            x, y = split.images[index].to(device), split.labels[index].to(device)
            logits = model(x)  # (B, K)
            total_loss += loss_fn(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
    finally:
        model.train(was_training)
    return total_loss / len(split), correct / len(split)


def batches(n: int, batch_size: int, generator: torch.Generator | None = None):
    """Index tensors that cover 0..n-1 once, the last one short where it must be.

    Shuffled by `generator`; in order without one.
    """
    expect_int("n, the number of examples,", n, low=0)
    expect_int("batch_size", batch_size)
    check_generator(generator)
    if generator is None:
        return torch.arange(n).split(batch_size)
    return torch.randperm(n, generator=generator).split(batch_size)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of correct predictions, from 0 to 1.

    logits (B, K) float, labels (B,) int64, below K. ValueError on other shapes: (B, 1)
    labels would broadcast in silence and give a wrong number; so would nan, whose argmax
    is 0.
    """
    check_pair(logits, labels)
    expect(len(labels) > 0, "accuracy needs at least one example", logits)
    expect(not logits.isnan().any(), "the logits must be numbers", math.nan)
    for label in labels.aminmax():
        check_class(label.item(), logits)
    return (logits.argmax(1) == labels).float().mean().item()


def warmup_decay(t: int, steps: int, warmup: float = 0.3) -> float:
    """Factor on the peak learning rate at step t: up in a line, then down to zero.

    For torch.optim.lr_scheduler.LambdaLR. ValueError after the end, where the rate would
    be negative. Developed in the lesson on training well.
    """
    expect_int("steps", steps)
    expect_between("warmup, a share of the steps,", warmup, ends=False)
    expect_between("t, the step,", t, high=math.inf)
    if t > steps:
        raise ValueError(
            f"step {t} of a schedule of {steps} steps: it is over. Make a new optimizer "
            "and a new schedule, with as many steps as are trained"
        )
    return min(1, (t + 1) / (warmup * steps), (steps - t) / ((1 - warmup) * steps))


def pick_device() -> torch.device:
    """The first of CUDA GPU, Apple GPU and CPU that this machine has."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def seed_everything(seed: int = 0) -> None:
    """Seed Python, NumPy and PyTorch. Same seed and same thread count: same numbers."""
    expect_int("seed", seed, low=0, high=2**32 - 1)  # NumPy takes no others
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def environment() -> str:
    """One line that says on what a lesson ran: versions, device, threads."""
    count = torch.get_num_threads()
    threads = "1 thread" if count == 1 else f"{count} threads"
    return (
        f"PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{pick_device()}, {threads}"
    )
