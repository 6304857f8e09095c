"""The training loop that lesson 05 develops, and the evaluation that goes with it."""

import math
import platform
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_src import checkpoint as checkpoints
from lessons_src import distributed
from lessons_src.data import Split


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""


@dataclass
class History:
    """One entry an epoch: mean training loss and accuracy (0 to 1) while learning, seconds,
    and the same on `test`, where `fit` was given one."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


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
    return (f"PyTorch {torch.__version__}, Python {platform.python_version()}, "
            f"{pick_device()}, {torch.get_num_threads()} threads")  # fmt: skip


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of correct predictions, from 0 to 1.

    logits (B, K) float, labels (B,) int64. ValueError on other shapes: (B, 1) labels would
    broadcast in silence and give a wrong number.
    """
    _check_pair(logits, labels)
    return (logits.argmax(1) == labels).float().mean().item()


def batches(n: int, batch_size: int, generator: torch.Generator | None = None):
    """Index tensors that cover 0..n-1 once, the last one short where it must be.

    Shuffled by `generator`; in order without one.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive int, received {batch_size!r}")
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    return order.split(batch_size)


def fit(model: nn.Module, split: Split, epochs: int, optimizer, *, batch_size=64, scheduler=None,
        loss_fn=F.cross_entropy, test: Split | None = None, shuffle=True, seed=0,
        device=None, progress=True, checkpoint=None, about=None) -> History:  # fmt: skip
    """Train `model` on `split` and return what was measured.

    split: images (N, ...) float, labels (N,) int64. optimizer: over model.parameters().
    scheduler: stepped after every batch. test: evaluated after every epoch. The order of the
    examples comes from a generator of its own, seeded with `seed`. checkpoint: a file, written
    after every epoch; where it exists, training goes on from it to the same numbers. about: a
    dict of what else has to be the same for that, such as the data set's name. Under torchrun,
    in a `distributed.group`, every batch is shared among the processes (lesson 12).
    TrainingError on a loss that is not finite; ValueError on input of the wrong form;
    CheckpointError on a file of another training. Developed in lessons 05 and 08.
    """
    check_split(split)
    device = device or pick_device()
    network = distributed.replicate(model.to(device))  # the model itself, without torchrun
    split, test = split.to(device), test and test.to(device)
    generator = torch.Generator().manual_seed(seed) if shuffle else None
    settings = {"examples": len(split), "batch_size": batch_size, "seed": seed, "shuffle": shuffle}
    settings |= about or {}
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    history = _resume(checkpoint, settings, parts, generator) if checkpoint else History()
    for epoch in range(len(history.loss) + 1, epochs + 1):
        start, total_loss, correct = time.perf_counter(), 0.0, 0
        model.train()
        for number, batch in enumerate(batches(len(split), batch_size, generator), 1):
            index = distributed.share(batch)  # all of it, without torchrun
            x, y = split.images[index], split.labels[index]  # (B, ...), (B,)
            logits = network(x)  # (B, K)
            part = loss_fn(logits, y)
            loss = distributed.whole(part, len(y), len(batch))  # over all processes
            if not math.isfinite(loss.item()):
                raise TrainingError(_diverged(loss, part, y, epoch, number, optimizer))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            total_loss += loss.item() * len(batch)  # a short last batch weighs less
            correct += (logits.argmax(1) == y).sum().item()
        history.loss.append(total_loss / len(split))
        history.accuracy.append(distributed.total(correct) / len(split))
        history.seconds.append(time.perf_counter() - start)
        if test is not None:
            loss, share = evaluate(model, test, loss_fn=loss_fn)
            history.test_loss.append(loss)
            history.test_accuracy.append(share)
        if checkpoint:
            _keep(checkpoint, settings, parts, generator, history)
        if progress and distributed.rank() == 0:
            print(_line(history, epoch, epochs))
    return history


def warmup_decay(t: int, steps: int, warmup: float = 0.3) -> float:
    """Factor on the peak learning rate at step t of `steps`: up in a line, then down to zero.

    For torch.optim.lr_scheduler.LambdaLR. Developed in lesson 05.
    """
    return min(1, (t + 1) / (warmup * steps), (steps - t) / ((1 - warmup) * steps))


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, *, batch_size=1000, loss_fn=F.cross_entropy):
    """Mean loss and accuracy (0 to 1) over the whole split, in evaluation mode.

    The model's training mode is put back afterwards. loss_fn gives a batch's mean loss; each
    batch weighs as many examples as it has. Under torchrun the processes share the batches, all
    of them have to call this, and all get the same numbers.
    """
    check_split(split)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    loss, correct, first, step = 0.0, 0, distributed.rank(), distributed.world_size()
    try:
        for index in batches(len(split), batch_size)[first::step]:
            x, y = split.images[index].to(device), split.labels[index].to(device)
            logits = model(x)  # (B, K)
            _check_pair(logits, y)
            loss += loss_fn(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
    finally:
        model.train(was_training)
    return distributed.total(loss) / len(split), distributed.total(correct) / len(split)


def check_split(split: Split) -> None:
    """ValueError unless the split can be trained on: float images, at least one example."""
    images = getattr(split, "images", None)
    if images is None:
        raise ValueError(f"expected a lessons_src.data.Split, received {type(split).__name__}")
    if not images.is_floating_point():
        raise ValueError(
            f"expected float images, received {tuple(images.shape)} {images.dtype}: "
            "call .scaled() or .normalised(mean, std) first"
        )
    if len(split) == 0:
        raise ValueError(f"expected at least one example, received images {tuple(images.shape)}")


def _keep(path, settings, parts, generator, history) -> None:
    """Write all that the next epoch depends on: parameters, optimizer, schedule, both random
    states (the order of the examples; each rank's, for dropout and augmentation), and what was
    measured. Rank 0 writes, the others wait."""
    device = next(parts["model"].parameters()).device
    random_states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        random_states["cuda"] = torch.cuda.get_rng_state(device)
    random_states, *others = distributed.gather(random_states)
    if generator is not None:
        random_states["order"] = generator.get_state()
    states = {name: part.state_dict() for name, part in parts.items() if part is not None}
    state = {"settings": settings, "parts": states, "random": random_states, "others": others}
    distributed.by_one(lambda: checkpoints.save(path, state | {"history": vars(history)}))


def _resume(path, settings, parts, generator) -> History:
    """Put back what `_keep` wrote; an empty History where there is no file yet.

    Rank 0 reads. With another number of ranks the order of the examples is as it was; a rank
    that the file does not know draws its dropout and augmentation afresh.
    """
    state = distributed.by_one(lambda: checkpoints.load(path) if Path(path).exists() else None)
    if state is None:
        return History()
    given = {name for name, part in parts.items() if part is not None}
    here = settings | {"with": sorted(given)}
    there = state.get("settings", {}) | {"with": sorted(state.get("parts", {}))}
    if differ := sorted(k for k in here | there if here.get(k) != there.get(k)):
        raise checkpoints.CheckpointError(
            f"{path} is of another training: its "
            + ", its ".join(f"{k} is {there.get(k)}, not {here.get(k)}" for k in differ)
            + ". Delete the file, or name another."
        )
    try:
        for name in sorted(given):
            parts[name].load_state_dict(state["parts"][name])
    except (RuntimeError, ValueError) as error:
        raise checkpoints.CheckpointError(f"{path} is of another {name}: {error}") from error
    if generator is not None:
        generator.set_state(state["random"]["order"])
    ranks = [state["random"], *state.get("others", [])]
    if distributed.rank() < len(ranks):
        own = ranks[distributed.rank()]
        torch.set_rng_state(own["torch"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
    return History(**state["history"])


def _check_pair(logits: Tensor, labels: Tensor) -> None:
    good = logits.ndim == 2 and logits.is_floating_point() and labels.dtype == torch.int64
    if not good or labels.shape != logits.shape[:1]:
        raise ValueError(
            "expected logits (B, K) float and labels (B,) int64; received logits "
            f"{tuple(logits.shape)} {logits.dtype} and labels {tuple(labels.shape)} {labels.dtype}"
        )


def _diverged(loss: Tensor, part: Tensor, y: Tensor, epoch: int, batch: int, optimizer) -> str:
    lr, ranks = optimizer.param_groups[0]["lr"], distributed.world_size()
    finite = distributed.gather(len(y) == 0 or math.isfinite(part.item()))
    bad = " and ".join(str(rank) for rank in range(ranks) if not finite[rank])
    where = f", on rank {bad} of {ranks}" if ranks > 1 else ""
    return (f"the loss is {loss.item()} in epoch {epoch}, batch {batch}{where}, "
            f"at learning rate {lr:g}. "
            "Try a smaller learning rate, and look for inf or nan in the input.")  # fmt: skip


def _line(history: History, epoch: int, epochs: int) -> str:
    line = f"epoch {epoch}/{epochs}  loss {history.loss[-1]:.3f}  train {history.accuracy[-1]:.2%}"
    if history.test_accuracy:
        line += f"  test {history.test_accuracy[-1]:.2%}"
    return line + f"  {history.seconds[-1]:.1f} s"


if __name__ == "__main__":  # python -m lessons_src.train --help
    from lessons_src.command import main

    main()
