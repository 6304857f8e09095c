"""What `train` refuses before anything is trained or measured, and in which words."""

import math

import torch
from torch import Tensor, nn

from lessons_src.data import Split
from lessons_src.expect import expect, expect_type, whole


def check_training(
    model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
) -> None:
    """ValueError where `fit` would fail later, or train something else than is meant."""
    expect_type("model", model, nn.Module)
    expect_type("optimizer", optimizer, torch.optim.Optimizer)
    whole("epochs", epochs, low=0)
    whole("batch_size", batch_size)
    check_generator(generator)
    check_split(split, of=model)
    if test is not None:
        check_split(test)
    trained = {p for group in optimizer.param_groups for p in group["params"]}
    if trained.isdisjoint(model.parameters()):
        raise ValueError(
            "the optimizer holds none of the model's parameters, so nothing would be "
            "trained: make it anew, after the model"
        )
    kind = (
        "a class" if isinstance(loss_fn, type) else getattr(loss_fn, "reduction", "mean")
    )
    expect(kind == "mean", "loss_fn must be a function that gives a batch's mean", kind)
    if scheduler is not None:
        is_its = getattr(scheduler, "optimizer", optimizer) is optimizer
        needed = "scheduler must be a schedule of this optimizer"
        expect(is_its and not isinstance(scheduler, type), needed, scheduler)
        for rate in getattr(scheduler, "lr_lambdas", []):
            last = scheduler.last_epoch + epochs * math.ceil(len(split) / batch_size)
            rate(last)  # of `warmup_decay`: a ValueError where it is over before


def check_split(split: Split, of: nn.Module | None = None) -> None:
    """ValueError unless the split can be trained on: float images, classes from 0, at
    least one example, on the device of the model, where one is given."""
    expect_type("what is trained or measured on", split, Split)
    images, labels = split.images, split.labels
    needed = "call .scaled() or .normalised(mean, std) first: images must be float"
    expect(images.is_floating_point(), needed, images)
    if of is not None:
        place = device_of(of, split)
        needed = f'the split must be on {place}, as the model is: split.to("{place}")'
        expect(images.device == place, needed, images)
    expect(len(split) > 0, "a split needs at least one example", images)
    expect(labels.min() >= 0, "labels must be 0 or more", labels.min().item())


def check_generator(generator) -> None:
    """ValueError unless it is None or a torch.Generator."""
    if generator is not None:
        hint = ": torch.Generator().manual_seed(0)"
        expect_type("generator", generator, torch.Generator, hint)


def check_pair(logits: Tensor, labels: Tensor) -> None:
    """ValueError unless logits (B, K) are float and labels (B,) int64."""
    expect_type("logits", logits, Tensor)
    expect_type("labels", labels, Tensor)
    right = logits.ndim == 2 and logits.is_floating_point()
    if not right or labels.dtype != torch.int64 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "expected logits (B, K) float and labels (B,) int64; received logits "
            f"{tuple(logits.shape)} {logits.dtype} and labels {tuple(labels.shape)} "
            f"{labels.dtype}"
        )


def device_of(model: nn.Module, split: Split) -> torch.device:
    """Where the model's parameters are; where it has none, where the split is."""
    return next(model.parameters(), split.images).device


def diverged(loss: float, epoch: int, batch: int, optimizer) -> str:
    """Where a loss stopped being finite, and what to try."""
    lr = optimizer.param_groups[0]["lr"]
    return (
        f"the loss is {loss} in epoch {epoch}, batch {batch}, at learning rate {lr:g}. "
        "Try a smaller learning rate, and look for inf or nan in the input."
    )
