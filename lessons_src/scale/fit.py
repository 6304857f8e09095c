"""`train.fit` and `train.evaluate` shared among ranks, with the same results.

torchrun starts the ranks. The loop is that of `train.fit`; its additions are marked with
"ranks". Every batch is cut into as many parts as there are ranks, and each rank computes
the gradient of its part.
"""

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from lessons_src import train
from lessons_src.scale.distributed import all_gather, rank, sum_over_ranks, world_size
from lessons_src.train import History, TrainingError, batches, history_on_error
from lessons_src.train_checks import (
    check_fit,
    check_last_batch,
    check_split,
    divergence,
    with_loss_checks,
)


def fit(
    model,
    split,
    epochs,
    optimizer,
    *,
    batch_size=64,
    scheduler=None,
    loss_fn=F.cross_entropy,
    test=None,
    generator=None,
    progress=True,
) -> History:
    """Train like `train.fit`, in a `distributed.group` with all its ranks.

    Arguments, result and errors are those of `train.fit`; batch_size is that of all
    ranks together, and every rank needs a `generator` in the same state. Without
    dropout, augmentation and batch norm the weights are those of one process but for
    rounding; dropout and augmentation are drawn by each rank for itself. Batch norm
    takes its statistics over all ranks on GPUs, and over a rank's own part on CPUs.
    """
    if world_size() == 1:
        options = {"batch_size": batch_size, "scheduler": scheduler, "loss_fn": loss_fn}
        options |= {"test": test, "generator": generator, "progress": progress}
        return train.fit(model, split, epochs, optimizer, **options)
    check_fit(
        model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
    )
    loss_fn = with_loss_checks(loss_fn, split)
    if not next(model.parameters()).is_cuda:  # there batch norm looks at all ranks' parts
        check_last_batch(model, split, batch_size, ranks=world_size())  # ranks
    network = replicate(model, len(split), batch_size)  # ranks
    history = History()
    with history_on_error(history):
        for epoch in range(1, epochs + 1):
            start, total_loss, correct = time.perf_counter(), 0.0, 0
            model.train()
            order = batches(len(split), batch_size, generator)
            for number, batch in enumerate(order, 1):
                index = batch.tensor_split(world_size())[rank()]  # ranks: this one's part
                x, y = split.images[index], split.labels[index]
                logits = network(x)
                # ranks: a part without examples has the loss 0
                loss = loss_fn(logits, y) if len(y) > 0 else logits.sum()
                mean_loss = sum_over_ranks(loss.item() * len(y)) / len(batch)  # ranks
                if not math.isfinite(mean_loss):
                    message = divergence(mean_loss, epoch, number, optimizer)
                    raise TrainingError(message + where_not_finite(loss))  # ranks
                optimizer.zero_grad()
                # ranks: backward() leaves the mean of all ranks' gradients
                share = len(y) * world_size() / len(batch)
                (share * loss).backward()
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                total_loss += mean_loss * len(batch)
                correct += (logits.argmax(1) == y).sum().item()
            history.seconds.append(time.perf_counter() - start)
            history.loss.append(total_loss / len(split))
            history.accuracy.append(sum_over_ranks(correct) / len(split))  # ranks
            if test is not None:
                test_loss, test_accuracy = evaluate(model, test, loss_fn=loss_fn)  # ranks
                history.test_loss.append(test_loss)
                history.test_accuracy.append(test_accuracy)
            if progress and rank() == 0:  # ranks
                print(history.progress_line(epochs))
    return history


@torch.no_grad()
def evaluate(model: nn.Module, split, *, batch_size=1000, loss_fn=F.cross_entropy):
    """Mean loss and accuracy over the whole split, like `train.evaluate`, on all ranks.

    The ranks share the batches, so all of them have to call this; all get the same
    numbers.
    """
    check_split(split)
    parts = batches(len(split), batch_size)[rank() :: world_size()]
    mine = split[torch.cat(parts)] if parts else split[:0]
    loss, accuracy = 0.0, 0.0
    if len(mine) > 0:
        options = {"batch_size": batch_size, "loss_fn": loss_fn}
        loss, accuracy = train.evaluate(model, mine, **options)
    total_loss = sum_over_ranks(loss * len(mine))
    correct = sum_over_ranks(accuracy * len(mine))
    return total_loss / len(split), correct / len(split)


def replicate(
    model: nn.Module, examples: int, batch_size: int
) -> DistributedDataParallel:
    """The model of rank 0, whose backward() leaves the mean gradient of all ranks.

    Ranks that would draw the same random numbers draw their own from here on, so that
    dropout and augmentation differ between the parts. On GPUs batch norm takes its
    statistics over all ranks, which PyTorch can do there alone. ValueError where a
    rank would have no example to normalise.
    """
    last = examples % batch_size or batch_size
    normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
    if normalises and last < world_size():
        raise ValueError(
            f"a batch of {last} examples cannot be shared by {world_size()} ranks where there "
            "is batch norm: each needs one at least. Choose another batch size"
        )
    if next(model.parameters()).is_cuda:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    states = all_gather(torch.get_rng_state())
    if rank() > 0 and torch.equal(states[rank()], states[0]):
        torch.manual_seed(torch.randint(2**60, ()).item() + rank())
    return DistributedDataParallel(model)


def where_not_finite(loss: Tensor) -> str:
    """A sentence that says on which ranks the own part of the loss was not finite."""
    finite = all_gather(bool(loss.isfinite()))
    names = [str(number) for number, good in enumerate(finite) if not good]
    return f" It was so on rank {' and '.join(names)} of {world_size()}."
