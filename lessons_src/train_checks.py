"""What `train` refuses before anything is trained or measured, and in which words."""

import copy
import math
import random
import traceback
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lessons_src.data import Split
from lessons_src.expect import expect, expect_int, expect_type

OF_THIS_OPTIMIZER = (
    "scheduler must be a schedule of this optimizer, stepped at every batch"
)


def check_fit(
    model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
) -> None:
    """ValueError where `fit` would fail later, or train something else than is meant."""
    check_each(
        model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
    )
    check_together(model, split, epochs, optimizer, batch_size, scheduler, test)


def check_each(
    model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
) -> None:
    """ValueError where an argument of `fit` is none of its kind."""
    expect_type("model", model, nn.Module)
    expect_type("optimizer", optimizer, torch.optim.Optimizer)
    expect_int("epochs", epochs, low=0)
    expect_int("batch_size", batch_size)
    check_generator(generator)
    check_split(split, of=model)
    if test is not None:
        check_split(test)
    check_loss(loss_fn)
    is_stepped = hasattr(scheduler, "step") and not isinstance(
        scheduler, type | ReduceLROnPlateau
    )
    expect(scheduler is None or is_stepped, OF_THIS_OPTIMIZER, scheduler)


def check_together(model, split, epochs, optimizer, batch_size, scheduler, test) -> None:
    """ValueError where the arguments of `fit`, each right, do not belong together."""
    check_trainable(model, optimizer)
    if scheduler is not None:
        is_its = getattr(scheduler, "optimizer", optimizer) is optimizer
        expect(is_its, OF_THIS_OPTIMIZER, scheduler)
        for rate in getattr(scheduler, "lr_lambdas", []):
            last = scheduler.last_epoch + epochs * math.ceil(len(split) / batch_size)
            rate(last)  # of `warmup_decay`: a ValueError where it is over before
    check_dtype(model, split)
    if test is not None:
        check_dtype(model, test)
    check_last_batch(model, split, batch_size)


def check_trainable(model: nn.Module, optimizer) -> None:
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


def with_loss_checks(loss_fn, split: Split):
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
        check_mean(loss)
        return loss

    return checked_loss


def check_mean(loss: Tensor) -> None:
    """ValueError where the loss is a sum, as torch's own loss function says that made it.

    `lambda z, y: F.cross_entropy(z, y, reduction="sum")` is only known by its result. A
    sum that somebody wrote out is not noticed: its weights may make a mean of it. To call
    the function again, on twice the batch, could change what it counts or draws.
    """
    is_sum = getattr(loss.grad_fn, "_saved_reduction", None) == 2  # torch: 1 is the mean
    expect(not is_sum, "loss_fn must be a function that gives a batch's mean", "sum")


def check_class(label: int, logits: Tensor) -> None:
    """ValueError unless there is a logit for this label."""
    K = logits.shape[1]
    expect(
        0 <= label < K,
        f"labels must be from 0 to {K - 1}, as there are {K} logits",
        label,
    )


def check_dtype(model: nn.Module, split: Split) -> None:
    """ValueError unless the model takes images of this dtype and of this shape, and has a
    logit for every label. Two images are tried."""
    dtype = next(model.parameters(), split.images).dtype
    needed = f"images must be {dtype}, as the model is: images.to({dtype})"
    expect(split.images.dtype == dtype, needed, split.images)
    logits, refusal = try_forward(model, split.images[:2])
    if refusal:
        shape = tuple(split.images.shape[1:])
        raise ValueError(f"the network does not take images {shape}: {refusal}")
    if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] > 1:
        check_class(split.labels.max().item(), logits)


def check_last_batch(model: nn.Module, split: Split, batch_size: int, ranks=1) -> None:
    """ValueError where batch norm would have one value of each channel, and no spread."""
    last = len(split) % batch_size or batch_size
    normalises = any(isinstance(part, _BatchNorm) for part in model.modules())
    if last // ranks != 1 or not normalises:
        return
    _, refusal = try_forward(model, split.images[:1], learning=_BatchNorm)
    if refusal:
        share = "" if ranks == 1 else f" for each of {ranks} ranks"
        raise ValueError(
            f"the last batch of {len(split)} examples, in batches of {batch_size}, has one "
            f"example{share}, which batch norm cannot normalise: choose another batch_size, "
            "or leave out some examples, as split[:-1] does"
        )


def try_forward(model: nn.Module, images: Tensor, learning: type | tuple = ()):
    """What a copy of the model makes of these images, in evaluation mode, and "".

    learning: layers of this kind are in training mode. Where a layer of torch or of the
    course fails: None, and which layer that is and what it says. Where anything else
    does, None and "": the model may need a whole batch, or gradients, or cannot be copied.
    Nothing of the model, and no random number, is another afterwards.
    """
    images = images.to(next(model.parameters(), images).device)
    model = getattr(model, "_orig_mod", model)  # torch.compile would compile the copy
    if any(part._forward_hooks or part._forward_pre_hooks for part in model.modules()):
        return None, ""  # hooks would record this trial run as training
    try:
        model = copy.deepcopy(model).eval()
        for layer in model.modules():
            if isinstance(layer, learning):
                layer.train()
        with keep_random_state(images.device), torch.no_grad():
            return model(images), ""
    except (RuntimeError, ValueError, IndexError) as error:
        return None, refusal_of(model, error)
    except Exception:  # the training will say what it is
        return None, ""


def refusal_of(model: nn.Module, error: Exception) -> str:
    """Which layer of torch or of the course raised the error, and what it says; "" where
    another did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = [frame.f_locals.get("self") for frame in frames]
    layer = next((part for part in reversed(inside) if isinstance(part, nn.Module)), None)
    if not type(layer).__module__.startswith(("torch.nn.modules.", "lessons_src.")):
        return ""
    name = next((name for name, part in model.named_modules() if part is layer), "")
    place = f"its layer {name}" if name else "it"
    kind = f"{type(layer).__name__}({layer.extra_repr()})"
    return f"{place}, {kind}, says: {str(error).splitlines()[0]}"


@contextmanager
def keep_random_state(device: torch.device):
    """The generators of torch, NumPy and Python are afterwards as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


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


def divergence(loss: float, epoch: int, batch: int, optimizer) -> str:
    """Where a loss stopped being finite, and what to try."""
    lr = optimizer.param_groups[0]["lr"]
    return (
        f"the loss is {loss} in epoch {epoch}, batch {batch}, at learning rate {lr:g}. "
        "Try a smaller learning rate, and look for inf or nan in the input."
    )
