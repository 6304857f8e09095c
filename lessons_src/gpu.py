"""Training that never leaves the GPU, each step one CUDA graph. Developed in lesson 12.

A step of a small network is some hundred small operations, and to start each from Python takes
longer than the operation. A CUDA graph is recorded once and then started as a whole. It repeats
the same operations on the same places in memory: whatever changes from step to step has to lie
in tensors that stay where they are.
"""

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from warnings import catch_warnings, filterwarnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_src.data import Split
from lessons_src.train import History, TrainingError, check_split, pick_device


@dataclass
class Resident(History):
    """A History, and the seconds that came before the first epoch's clock was started."""

    data_seconds: float = 0.0  # network and images to the device, the schedule computed
    warmup_seconds: float = 0.0  # warm-up and capture; 0 without a graph


def fit_resident(model: nn.Module, split: Split, epochs: int, optimizer, *, batch_size=256,
                 scheduler=None, loss_fn=F.cross_entropy, seed=0, device=None, graph=True,
                 amp: torch.dtype | None = None) -> Resident:  # fmt: skip
    """Train like `train.fit`, with all that a step needs on the device: same steps, same result.

    split: images (N, ...) float, labels (N,) int64. Each epoch draws its order on the device and
    takes the N // batch_size full batches; no number is read back before its end. scheduler: of
    the learning rate alone, a step per batch. amp: torch.bfloat16 for mixed precision. graph: on
    CUDA each step is a CUDA graph, which takes SGD, Adam or AdamW with fused=True; elsewhere it
    runs operation by operation. ValueError on input of the wrong form; TrainingError on a loss
    that is not finite, at the end of its epoch.
    """
    device = torch.device(device or pick_device())
    graph = graph and _on_gpu(device)
    _check(split, epochs, batch_size, scheduler, optimizer, graph)
    start, history, batches = _now(device), Resident(), len(split) // batch_size
    model.to(device).train()
    images, labels = split.images.to(device), split.labels.to(device)  # (N, ...), (N,)
    generator = torch.Generator(device).manual_seed(seed)
    rates = _rates(optimizer, scheduler, epochs * batches).to(device)  # (steps, groups)
    rates = rates.view(epochs, batches, -1)
    # All that changes between two steps; a step reads these tensors and writes into them.
    number = torch.zeros(1, dtype=torch.int64, device=device)  # of the batch, from 0
    order = torch.arange(batches * batch_size, device=device).view(batches, -1)  # of the examples
    schedule = rates[0].clone()  # (batches, groups)
    lr = schedule[0].clone()  # (groups,)
    losses = torch.zeros(batches, device=device)
    correct = torch.zeros(batches, dtype=torch.int64, device=device)

    def step():
        index = order.index_select(0, number)[0]  # (B,)
        x, y = images.index_select(0, index), labels.index_select(0, index)  # (B, ...), (B,)
        lr.copy_(schedule.index_select(0, number)[0])
        with torch.autocast(device.type, amp, enabled=amp is not None, cache_enabled=False):
            logits = model(x)  # (B, K)
            loss = loss_fn(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.index_copy_(0, number, loss.detach().float().view(1))
        correct.index_copy_(0, number, (logits.argmax(1) == y).sum().view(1))
        number.add_(1).remainder_(batches)

    with _reading(lr, optimizer, graph):
        ready, run = _now(device), step
        history.data_seconds = ready - start
        if graph:
            with torch.cuda.device(device), undone(model, optimizer, number):
                run = graphed(step)
            history.warmup_seconds = _now(device) - ready
        for epoch in range(epochs):
            start = _now(device)
            shuffled = torch.randperm(len(split), generator=generator, device=device)
            order.copy_(shuffled[: order.numel()].view(order.shape))
            schedule.copy_(rates[epoch])
            for _ in range(batches):
                run()
            history.loss.append(_mean_loss(losses.tolist(), epoch + 1, rates[epoch]))
            history.accuracy.append(correct.sum().item() / order.numel())
            history.seconds.append(_now(device) - start)
    return history


def graphed(step, warmup=3):
    """`step` as one CUDA graph: the function that is returned repeats its work on the GPU.

    step: a function without arguments, on tensors that stay where they are; it reads no number
    back (.item()) and makes no tensor on the CPU. It runs `warmup` times, because libraries choose
    their algorithms and ask for memory at first, and is then recorded, not run. What the warm-up
    changed, the caller puts back (`undone`). Without CUDA: `step` itself. TrainingError where it
    cannot be recorded.
    """
    if not torch.cuda.is_available():
        return step
    stream = torch.cuda.Stream()  # recording is not possible on the default stream
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warmup):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            step()
    except RuntimeError as error:
        raise TrainingError(
            f"this step cannot become a CUDA graph: {str(error).splitlines()[0].rstrip('.')}. "
            "Look for what needs the CPU in it (.item(), print, a tensor made on the CPU); or, in "
            "a new process, train with graph=False."
        ) from error

    def replay():
        graph.replay()

    replay.step = step  # keeps the tensors that the graph works on
    return replay


@contextmanager
def undone(model: nn.Module, optimizer, *others: Tensor):
    """Steps taken inside leave no trace: all is put back, in place, where a graph looks for it.

    All: parameters, buffers, the optimizer's state, `others`, random numbers. State that is born
    inside becomes zero, which is where SGD, Adam and AdamW start.
    """

    def tensors():
        states = [x for state in optimizer.state.values() for x in state.values()]
        return [*model.parameters(), *model.buffers(), *others, *filter(torch.is_tensor, states)]

    before = {x: x.detach().clone() for x in tensors()}
    with torch.random.fork_rng({x.device for x in before if x.is_cuda}):
        yield
    with torch.no_grad():
        for x in tensors():
            x.copy_(before[x]) if x in before else x.zero_()


@contextmanager
def _reading(lr: Tensor, optimizer, graph: bool):
    """Inside, the optimizer reads its learning rates from `lr` (groups,); afterwards it has its
    numbers again."""
    groups = optimizer.param_groups
    kept = [{key: group[key] for key in ("lr", "capturable") if key in group} for group in groups]
    for group, rate in zip(groups, lr, strict=True):
        group["lr"] = rate  # a view of lr
        if "capturable" in group:  # Adam, AdamW
            group["capturable"] = graph
    try:
        with catch_warnings():  # the warm-up's steps are not recorded, and should not be
            filterwarnings("ignore", "This instance was constructed with capturable=True")
            yield
    finally:
        for group, numbers in zip(groups, kept, strict=True):
            group.update(numbers)


def _rates(optimizer, scheduler, steps: int) -> Tensor:
    """The learning rate of every step (steps, groups); the scheduler is then at its end."""
    rates = []
    with catch_warnings():
        filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # before optimizer.step
        for _ in range(steps):
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
            if scheduler is not None:
                scheduler.step()
    return torch.tensor(rates)


def _check(split, epochs, batch_size, scheduler, optimizer, graph) -> None:
    check_split(split)
    if epochs < 1:
        raise ValueError(f"epochs must be 1 or more, received {epochs}")
    if not isinstance(batch_size, int) or not 1 <= batch_size <= len(split):
        raise ValueError(f"batch_size must be an int from 1 to {len(split)}, the number of "
                         f"examples; received {batch_size!r}")  # fmt: skip
    if getattr(scheduler, "cycle_momentum", False):
        raise ValueError("this schedule changes the momentum too: give it cycle_momentum=False")
    if graph and any(not g.get("fused") or g.get("dampening") for g in optimizer.param_groups):
        raise ValueError(
            f"this {type(optimizer).__name__} cannot be part of a CUDA graph: give SGD, Adam or "
            "AdamW fused=True and no dampening, or train with graph=False"
        )


def _mean_loss(losses: list[float], epoch: int, rates: Tensor) -> float:
    for number, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} in epoch {epoch}, batch {number + 1}, at "
                                f"learning rate {rates[number, 0]:g}. Try a smaller learning rate, "
                                "and look for inf or nan in the input.")  # fmt: skip
    return math.fsum(losses) / len(losses)


def _on_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _now(device: torch.device) -> float:
    """Seconds on the clock, read when the GPU has done all that it was given."""
    if _on_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter()
