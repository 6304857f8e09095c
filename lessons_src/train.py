"""The training loop that the lesson on multilayer perceptrons writes, and its
evaluation."""

import platform
import random
import time
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_src.data import Split


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
        for name, values in vars(later).items():
            getattr(self, name).extend(values)

    def last_epoch(self, epochs: int) -> str:
        """The newest epoch in one line: `epoch 2/5  loss 0.123  train 96.30%  1.2 s`."""
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
    of the wrong form.
    """
    check_split(split)
    history = History()
    for epoch in range(1, epochs + 1):
        start, total_loss, correct = time.perf_counter(), 0.0, 0
        model.train()
        for number, index in enumerate(batches(len(split), batch_size, generator), 1):
            x, y = split.images[index], split.labels[index]  # (B, ...), (B,)
            logits = model(x)  # (B, K)
            loss = loss_fn(logits, y)
            if not loss.isfinite():
                raise TrainingError(diverged(loss.item(), epoch, number, optimizer))
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
            print(history.last_epoch(epochs))
    return history


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, *, batch_size=1000, loss_fn=F.cross_entropy):
    """Mean loss and accuracy (0 to 1) over the whole split, in evaluation mode.

    The model's training mode is put back afterwards. loss_fn gives a batch's mean
    loss; each batch weighs as many examples as it has. The split may be on another
    device.
    """
    check_split(split)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    total_loss, correct = 0.0, 0
    try:
        for index in batches(len(split), batch_size):
            x, y = split.images[index].to(device), split.labels[index].to(device)
            logits = model(x)  # (B, K)
            check_pair(logits, y)
            total_loss += loss_fn(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
    finally:
        model.train(was_training)
    return total_loss / len(split), correct / len(split)


def batches(n: int, batch_size: int, generator: torch.Generator | None = None):
    """Index tensors that cover 0..n-1 once, the last one short where it must be.

    Shuffled by `generator`; in order without one.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive int, received {batch_size!r}")
    order = (
        torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    )
    return order.split(batch_size)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of correct predictions, from 0 to 1.

    logits (B, K) float, labels (B,) int64. ValueError on other shapes: (B, 1) labels
    would broadcast in silence and give a wrong number.
    """
    check_pair(logits, labels)
    return (logits.argmax(1) == labels).float().mean().item()


def warmup_decay(t: int, steps: int, warmup: float = 0.3) -> float:
    """Factor on the peak learning rate at step t of `steps`: up in a line, then down to
    zero.

    For torch.optim.lr_scheduler.LambdaLR. Developed in the lesson on multilayer
    perceptrons.
    """
    return min(1, (t + 1) / (warmup * steps), (steps - t) / ((1 - warmup) * steps))


def pick_device() -> torch.device:
    """The first of CUDA GPU, Apple GPU and CPU that this machine has."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def seed_everything(seed: int = 0) -> None:
    """Seed Python, NumPy and PyTorch. Same seed and same thread count: same numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def environment() -> str:
    """One line that says on what a lesson ran: versions, device, threads."""
    threads = torch.get_num_threads()
    return (
        f"PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{pick_device()}, {threads} thread{'s' * (threads != 1)}"
    )


def check_split(split: Split) -> None:
    """ValueError unless the split can be trained on: float images, at least one
    example."""
    images = getattr(split, "images", None)
    if images is None:
        kind = type(split).__name__
        raise ValueError(f"expected a lessons_src.data.Split, received {kind}")
    if not images.is_floating_point():
        raise ValueError(
            f"expected float images, received {tuple(images.shape)} {images.dtype}: "
            "call .scaled() or .normalised(mean, std) first"
        )
    if len(split) == 0:
        shape = tuple(images.shape)
        raise ValueError(f"expected at least one example, received images {shape}")


def check_pair(logits: Tensor, labels: Tensor) -> None:
    """ValueError unless logits (B, K) are float and labels (B,) int64."""
    right = (
        logits.ndim == 2 and logits.is_floating_point() and labels.dtype == torch.int64
    )
    if not right or labels.shape != logits.shape[:1]:
        raise ValueError(
            "expected logits (B, K) float and labels (B,) int64; received logits "
            f"{tuple(logits.shape)} {logits.dtype} and labels {tuple(labels.shape)} "
            f"{labels.dtype}"
        )


def diverged(loss: float, epoch: int, batch: int, optimizer) -> str:
    """Where a loss stopped being finite, and what to try."""
    lr = optimizer.param_groups[0]["lr"]
    return (
        f"the loss is {loss} in epoch {epoch}, batch {batch}, at learning rate {lr:g}. "
        "Try a smaller learning rate, and look for inf or nan in the input."
    )
