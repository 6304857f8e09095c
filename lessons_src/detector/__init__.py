"""Looks at a training while it takes a few steps, and names what is wrong with it.

`check_training` runs the reader's own loop on a few hundred images, watches every forward
pass, backward pass and step (`watch`), and puts everything back as it was. Each function
of `checks` looks for one fault in what was seen (`evidence`); `findings` says in words
what each fault is, why it matters and what to do.

The faults are from reports on real programs, such as backpack#95 (no zero_grad),
pytorch/tutorials#1602 (stays in evaluation mode), #188 (best state by reference) and
#1486 (wrong average), texar-pytorch#72 (layers in a list) and opacus#432 (an optimizer
made too early).
"""

import torch
from torch import nn
from torch.utils.data import DataLoader

from lessons_src.detector.checks import CAUSES, SYMPTOMS
from lessons_src.detector.evidence import Evidence
from lessons_src.detector.findings import FOLLOWS, KINDS, Finding, Findings
from lessons_src.detector.watch import Snapshot, part

LEAST = 16  # images: as many are to be learned by heart

__all__ = ["KINDS", "Finding", "Findings", "check_training"]


def check_training(
    model,
    loss_fn,
    optimizer,
    train_epoch,
    train,
    *,
    evaluate=None,
    test=None,
    scheduler=None,
    best_state=None,
) -> Findings:
    """Watch a few steps of a training and say what is wrong with it; change nothing.

    model: nn.Module. loss_fn(logits, labels) -> scalar. optimizer: over the model's
    parameters. train_epoch(model, train, optimizer): one epoch of your loop, with all
    that belongs to it, `scheduler.step()` included. train, test: a `Split`, a pair of
    tensors (images (N, ...), labels (N,)), a DataLoader, or a list of batches (x, y):
    whatever your functions take. evaluate(model, test): your evaluation. scheduler: the
    one that the loop steps. best_state: the state dict that was saved as the best.

    What is left out is not checked. Both functions get a part of the data, a few hundred
    images, and are stopped where they would go on for longer. Weights, buffers,
    gradients, modes, requires_grad, optimizer, scheduler and random states (also those of
    torch generators that the loop uses) are put back, to the last bit. What your functions
    keep for themselves, such as a list of losses, is not.

    Returns `Findings`, a list of `Finding`, empty where nothing was found. ValueError or
    TypeError for arguments of the wrong form; an error of your own code comes through.
    """
    check_arguments(model, optimizer, train_epoch, evaluate, test, scheduler, best_state)
    check_data_and_loss(train, test, loss_fn)
    seen = Evidence(model, loss_fn, optimizer, scheduler, best_state)
    of_scheduler = getattr(scheduler, "__dict__", None)
    snapshot = Snapshot(model, loss_fn, optimizer, of_scheduler, best_state)
    try:
        seen.observe(train_epoch, train, evaluate, test)
        check_returned(seen.tests)
        snapshot.restore()
        found = [finding for check in CAUSES for finding in check(seen)]
        if not found:
            found = [finding for check in SYMPTOMS for finding in check(seen)]
    finally:
        for watch in reversed(seen.watches):  # the first knows the state of the start
            watch.restore_generators()
        snapshot.restore()
    hidden = {kind for finding in found for kind in FOLLOWS.get(finding.kind, ())}
    once = {f.kind: f for f in reversed(found) if f.kind not in hidden}
    return Findings(sorted(once.values(), key=lambda f: list(KINDS).index(f.kind)))


def check_arguments(model, optimizer, train_epoch, evaluate, test, scheduler, best_state):
    """TypeError or ValueError with a sentence for arguments of the wrong form."""

    def expect(name, value, right, what):
        if not right:
            kind = type(value).__name__
            raise TypeError(f"{name}: expected {what}, received {kind}")

    expect("model", model, isinstance(model, nn.Module), "an nn.Module")
    is_optimizer = isinstance(optimizer, torch.optim.Optimizer)
    expect("optimizer", optimizer, is_optimizer, "a torch.optim.Optimizer")
    expect("train_epoch", train_epoch, callable(train_epoch), "a function")
    if evaluate is not None:
        expect("evaluate", evaluate, callable(evaluate), "a function")
    if scheduler is not None:
        expect("scheduler", scheduler, hasattr(scheduler, "step"), "one with a step()")
    if best_state is not None:
        is_state = isinstance(best_state, dict | list | nn.Module)
        expect("best_state", best_state, is_state, "a state dict or a module")
    if (evaluate is None) != (test is None):
        raise ValueError("evaluate and test belong together: give both, or neither")


def check_data_and_loss(train, test, loss_fn):
    """TypeError or ValueError where there is too little to watch, or no loss function."""
    if not callable(loss_fn) or isinstance(loss_fn, type):
        raise TypeError(
            f"loss_fn: expected a function of logits and labels, received {loss_fn!r}"
        )
    for name, data in {"train": train, "test": test}.items():
        if data is None and name == "test":
            continue
        is_loader = isinstance(data, DataLoader)
        total = len(data.dataset) if is_loader else part(name, data, 1).total
        if total < LEAST:
            raise ValueError(f"{name}: needs {LEAST} images at least, received {total}")


def check_returned(tests):
    """ValueError where an evaluation that ended gave nothing that could be looked at."""
    for watch in tests:
        if watch.complete and watch.returned is None:
            raise ValueError(
                "evaluate: returned None; let it return what it measures, the accuracy or "
                "the loss"
            )
