"""Training on several processes, on one machine or many: every batch is shared among them.

torchrun starts the processes, called ranks. `with group(device):` joins them; within it `fit` and
`evaluate` of lessons_src.train share the work, and their results are those of one process. In a
process on its own every function here gives back what it was given. Used in lesson 12.
"""

import datetime
import os
import time
import uuid
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

WAIT = datetime.timedelta(minutes=10)  # for another rank, before it is taken for dead


class GroupError(RuntimeError):
    """The ranks cannot work as they were started; the message says what to change."""


def rank() -> int:
    """This process's number, from 0; 0 where there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes share the work; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def group(device=None):
    """Join the processes that torchrun started: by NCCL on GPUs, one each, by gloo on CPUs.

    device: "cuda" or "cpu"; without one, GPUs where there are any. Yields this rank's device.
    Without torchrun nothing happens. GroupError where there are fewer GPUs than ranks. An error
    that one rank alone meets has to end its process: then torchrun ends the others too.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        yield device
        return
    if device.type == "cuda":
        device = _own_gpu()
    elif device.type != "cpu":
        raise GroupError(f"several processes work on CPUs or CUDA GPUs, not on {device.type}")
    store, number, size = next(rendezvous("env://", timeout=WAIT))
    store = dist.PrefixStore(_meeting(store, number, size), store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=WAIT)
    yield device
    dist.destroy_process_group()  # not after an error: the other ranks may never come to it


def _meeting(store, number: int, size: int) -> str:
    """A name that these ranks agree on, and that no earlier start of the job has used.

    torchrun keeps its store when it starts the ranks again: a rank that is quicker than another
    would find the addresses of processes that are dead, and wait for them. So rank 0 invites
    under a new name, and a rank goes only where it has been expected in person.
    """
    me = uuid.uuid4().hex
    if number == 0:
        store.set("invitation", me)
        there = [store.get(f"{me}/{other}").decode() for other in range(1, size)]  # each waits
        store.set(f"{me}/all", " ".join(there))
        return me
    name, end = None, time.monotonic() + WAIT.total_seconds()
    while time.monotonic() < end:
        if name != (name := store.get("invitation").decode()):
            store.set(f"{name}/{number}", me)
        if store.check([f"{name}/all"]) and me in store.get(f"{name}/all").decode():
            return name
        time.sleep(0.05)
    raise GroupError(f"rank {number} of {size} waited for the others in vain, {WAIT} long")


def _own_gpu() -> torch.device:
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise GroupError(f"process {number} of this machine has no GPU of its own, of {there}. "
                         "Start torchrun with as many as there are, or use the CPU.")  # fmt: skip
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def lost(error: Exception) -> bool:
    """Whether an error says that another rank is gone, or did not answer in time."""
    return world_size() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


# What fit and evaluate call ---------------------------------------------------------------------


def replicate(model: nn.Module) -> nn.Module:
    """The model, made so that calling it on shares trains it on the whole batch.

    Rank 0's parameters go to all ranks; backward() leaves on each the mean of all ranks'
    gradients; batch norm takes its mean and variance over all ranks. From here on each rank draws
    random numbers of its own, so that dropout and augmentation differ between the shares.
    """
    if world_size() == 1:
        return model
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = BatchNorm  # the same parameters: the optimizer knows them
    if rank() > 0:
        torch.manual_seed(torch.randint(2**60, ()).item() + rank())
    return DistributedDataParallel(model)


def share(batch: Tensor) -> Tensor:
    """This rank's part of a batch's indices (B,): the parts differ by one in length at most.

    A batch with fewer examples than ranks leaves some with none.
    """
    return batch.tensor_split(world_size())[rank()]


def whole(loss: Tensor, n: int, batch_size: int) -> Tensor:
    """The mean loss of a whole batch, the same on all ranks, from the mean over each one's n.

    Its gradient counts every example once, wherever it is, after the mean over ranks that
    DistributedDataParallel takes: the sum's gradient is world_size() times n / batch_size.
    """
    if world_size() == 1:
        return loss
    return Sum.apply(loss * (n / batch_size) if n else loss.nan_to_num() * 0)  # no example: nan


def total(number: float) -> float:
    """The sum of every rank's number, on all ranks."""
    if world_size() == 1:
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()


def gather(thing) -> list:
    """Every rank's thing, in the order of ranks, on all ranks."""
    things = [thing] * world_size()
    if world_size() > 1:
        dist.all_gather_object(things, thing)
    return things


def by_one(make):
    """What `make()` returns on rank 0, handed to all ranks; where it raises, all raise that."""
    made, error = None, None
    if rank() == 0:
        try:
            made = make()
        except Exception as caught:  # the others wait: they must hear of it, whatever it is
            error = caught
    if world_size() > 1:
        box = [made, error]
        dist.broadcast_object_list(box)
        made, error = box
    if error is not None:
        raise error
    return made


@contextmanager
def one_first():
    """The first rank of each machine goes through the block, then the others: files that it makes
    or downloads are made once, and found by the rest."""
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if world_size() > 1 and not first:
        dist.barrier()
    yield
    if world_size() > 1 and first:
        dist.barrier()


class Sum(torch.autograd.Function):
    """The sum of a tensor over all ranks, on all of them. Each rank's loss depends on every
    rank's part, so the gradient of a part is again a sum over all ranks."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return Sum.apply(gradient)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are those of the whole batch, on CPUs and GPUs.

    x (B, C, ...) on each rank, B may be 0. In evaluation, and in a process on its own, it is
    torch's (whose SyncBatchNorm does the same, on GPUs only).
    """

    def _check_input_dim(self, x):
        pass  # checked by the class that this module had before

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        axes, column = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))  # all but the channels
        own = x.numel() // x.shape[1]
        sums = Sum.apply(torch.cat([x.sum(axes), x.new_tensor([own])]))  # (C + 1,)
        n = sums[-1].detach()
        if own <= 1 and n <= 1:
            raise ValueError(f"batch norm needs two values a channel, received {tuple(x.shape)}")
        mean = sums[:-1] / n  # (C,)
        centred = x - mean.view(column)  # (B, C, ...)
        var = Sum.apply((centred**2).sum(axes)) / n  # (C,), biased
        self._follow(mean.detach(), var.detach() * n / (n - 1))
        scale = (var + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        return centred * scale.view(column) + (0 if self.bias is None else self.bias.view(column))

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None:
            return
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(var, weight)
