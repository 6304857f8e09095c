"""The processes that torchrun starts, and what they say to each other.

`with group() as device:` joins them. In a process on its own every function here gives
back what it was given. Each process is called a rank and has a number; rank 0 speaks
and writes.
"""

import datetime
import os
from contextlib import contextmanager
from numbers import Real

import torch
import torch.distributed as dist

from lessons_src.expect import describe, expect

WAIT = datetime.timedelta(minutes=10)  # for another rank, before it is taken for dead
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


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
    """Join the processes that torchrun started: by NCCL on GPUs, one each, by gloo on
    CPUs.

    device: "cuda" or "cpu"; without one, GPUs where there are any. Yields this rank's
    device. Without torchrun nothing happens. GroupError where there are fewer GPUs
    than ranks, or where ranks that start again could not find each other. An error
    that one rank alone meets has to end its process: then torchrun ends the others
    too.
    """
    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f'device must be "cuda", "cpu" or None, received {describe(device)}'
        ) from error
    if "RANK" not in os.environ or world_size() > 1:  # alone, or inside a group already
        yield device
        return
    if device.type not in ("cpu", "cuda"):
        raise GroupError(
            f"several processes work on CPUs or CUDA GPUs, not on {device.type}"
        )
    check_restarts()
    if device.type == "cuda":
        device = own_gpu()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
    yield device
    dist.destroy_process_group()  # not after an error: the other ranks may never come to it


def check_restarts() -> None:
    """GroupError where torchrun may start the ranks again with its store of old
    addresses.

    It keeps one store for all attempts, in which a new rank finds the addresses of
    dead ones and waits for them in vain; torch's own switch gives every attempt a
    store of its own.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if restarts > 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise GroupError(
            f"with --max-restarts, start torchrun with {OWN_STORE}=1 in its environment: "
            "otherwise ranks that are started again look for the dead ones"
        )


def own_gpu() -> torch.device:
    """The GPU of this rank, made the current one."""
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise GroupError(
            f"process {number} of this machine has no GPU of its own, of {count}. Start "
            "torchrun with as many processes as there are GPUs, or use the CPU."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def sum_over_ranks(number: float) -> float:
    """The sum of every rank's number, on all ranks."""
    expect(isinstance(number, Real), "what is summed must be a number", number)
    if world_size() == 1:
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()


def all_gather(thing) -> list:
    """Every rank's thing, in the order of ranks, on all ranks."""
    things = [thing] * world_size()
    if world_size() > 1:
        dist.all_gather_object(things, thing)
    return things


def on_rank_0(make):
    """What `make()` returns on rank 0, on all ranks; where it raises, all raise."""
    result, error = None, None
    if rank() == 0:
        try:
            result = make()
        except Exception as caught:  # the others wait: they must hear of it
            error = caught
    if world_size() > 1:
        message = [result, error]
        dist.broadcast_object_list(message)
        result, error = message
    if error is not None:
        raise error
    return result


@contextmanager
def local_rank_0_first():
    """The first rank of each machine goes through the block, then the others.

    Files that it makes or downloads are made once, and found by the rest. Where it
    raises, the others go on, to meet the same error or none.
    """
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if world_size() > 1 and not first:
        dist.barrier()
    try:
        yield
    finally:
        if world_size() > 1 and first:
            dist.barrier()
