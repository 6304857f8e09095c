"""What `train` refuses before anything is trained or measured, and in which words."""

import math

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lessons_src.data import Split
from lessons_src.expect import expect, expect_type, whole


def check_fit(
    model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
) -> None:
    """ValueError where `fit` would fail later, or train something else than is meant."""
    expect_type("model", model, nn.Module)
    expect_type("optimizer", optimizer, torch.optim.Optimizer)
    whole("epochs", epochs, low=0)
    whole("batch_size", batch_size)
    check_generator(generator)
    check_split(split, of=model)
    check_dtype(model, split)
    if test is not None:
        check_split(test)
        check_dtype(model, test)
    check_parameters(model, optimizer)
    check_loss(loss_fn)
    if scheduler is not None:
        is_its = getattr(scheduler, "optimizer", optimizer) is optimizer
        is_stepped = hasattr(scheduler, "step") and not isinstance(
            scheduler, type | ReduceLROnPlateau
        )
        needed = "scheduler must be a schedule of this optimizer, stepped at every batch"
        expect(is_its and is_stepped, needed, scheduler)
        for rate in getattr(scheduler, "lr_lambdas", []):
            last = scheduler.last_epoch + epochs * math.ceil(len(split) / batch_size)
            rate(last)  # of `warmup_decay`: a ValueError where it is over before


def check_parameters(model: nn.Module, optimizer) -> None:
    """ValueError where parameters that ask for a gradient would not be trained.

    A layer that is to stay as it is asks for none.
    """
    needed = "optimizer must be one whose step() needs no closure"
    expect(not isinstance(optimizer, torch.optim.LBFGS), needed, optimizer)
    held = {p for group in optimizer.param_groups for p in group["params"]}
    if held.isdisjoint(model.parameters()):
        raise ValueError(
            "the optimizer holds none of the model's parameters, so nothing would be "
            "trained: make it anew, after the model"
        )
    asking = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not asking or not torch.is_grad_enabled():
        raise ValueError(
            "nothing would be trained: no parameter asks for a gradient "
            "(requires_grad), or gradients are off (torch.no_grad)"
        )
    left = [name for name, p in asking.items() if p not in held]
    if left:
        raise ValueError(
            f"the optimizer does not hold {', '.join(left)}: make it anew, after the last "
            "change of the model. A layer that is not to be trained says so by "
            "layer.requires_grad_(False)"
        )


def check_loss(loss_fn) -> None:
    """ValueError unless loss_fn may be a function that gives a batch's mean loss."""
    needed = "loss_fn must be a function that gives a batch's mean"
    is_function = callable(loss_fn) and not isinstance(loss_fn, type)
    expect(is_function, needed, loss_fn)
    partial = getattr(loss_fn, "keywords", {})  # of a functools.partial
    reduction = partial.get("reduction", getattr(loss_fn, "reduction", "mean"))
    expect(reduction in ("mean", "batchmean"), needed, reduction)


def checked(loss_fn, split: Split):
    """The same function; ValueError where the logits, the split's labels, or what it
    gives do not fit."""
    check_loss(loss_fn)
    highest = split.labels.max().item()  # once: reading a number makes a GPU wait

    def checked_loss(logits, labels):
        check_pair(logits, labels)
        check_class(highest, logits)
        loss = loss_fn(logits, labels)
        is_number = isinstance(loss, Tensor) and loss.numel() == 1
        expect(is_number, "loss_fn must give a tensor of one number, the mean", loss)
        return loss

    return checked_loss


def check_class(label: int, logits: Tensor) -> None:
    """ValueError unless there is a logit for this label."""
    K = logits.shape[1]
    expect(
        0 <= label < K,
        f"labels must be from 0 to {K - 1}, as there are {K} logits",
        label,
    )


def check_dtype(model: nn.Module, split: Split) -> None:
    """ValueError unless images and parameters are numbers of one kind."""
    dtype = next(model.parameters(), split.images).dtype
    needed = f"images must be {dtype}, as the model is: images.to({dtype})"
    expect(split.images.dtype == dtype, needed, split.images)


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
    """ValueError unless logits (B, K) are float, K 2 or more, and labels (B,) int64."""
    expect_type("logits", logits, Tensor)
    expect_type("labels", labels, Tensor)
    right = logits.ndim == 2 and logits.shape[1] > 1 and logits.is_floating_point()
    if not right or labels.dtype != torch.int64 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "expected logits (B, K) float, K 2 or more, and labels (B,) int64; received logits "
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
