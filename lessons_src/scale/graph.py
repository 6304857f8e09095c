"""A training step as one CUDA graph: what makes small networks fast on a GPU.

A step of a small network is some hundred small operations, and to start each from
Python takes longer than the operation. A CUDA graph is recorded once and then started
as a whole. It repeats the same operations on the same places in memory: whatever
changes from step to step has to lie in tensors that stay where they are.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lessons_src.expect import expect, expect_int, expect_type
from lessons_src.train import TrainingError


def graphed(step, warmup=3):
    """`step` as one CUDA graph: a function that repeats its work on the GPU.

    step: a function without arguments, on tensors that stay where they are; it reads
    no number back (.item()) and makes no tensor on the CPU. It runs `warmup` times,
    because libraries choose their algorithms and ask for memory at first, and is then
    recorded, not run. What the warm-up changed, the caller puts back (`preserve_state`).
    Without CUDA: `step` itself. TrainingError where it cannot be recorded.
    """
    needed = "step must be a function without arguments: def step(): ..."
    expect(callable(step) and not isinstance(step, type | nn.Module), needed, step)
    expect_int("warmup", warmup, low=0)
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
            "Look for what needs the CPU in it (.item(), print, a tensor made on the CPU), or "
            "train without a graph, in a new process."
        ) from error

    def replay():
        graph.replay()

    replay.step = step  # keeps the tensors that the graph works on
    return replay


@contextmanager
def preserve_state(model: nn.Module, optimizer, *others: Tensor):
    """Steps taken inside leave no trace: all is put back where a graph looks for it.

    That is parameters, buffers, the optimizer's state, `others`, and random numbers.
    State that is made inside becomes zero, which is where SGD, Adam and AdamW start.
    """
    expect_type("model", model, nn.Module)
    expect_type("optimizer", optimizer, torch.optim.Optimizer)
    for other in others:
        expect_type("what else is put back", other, Tensor)
    before = {x: x.detach().clone() for x in tensors_of(model, optimizer, others)}
    with torch.random.fork_rng({x.device for x in before if x.is_cuda}):
        yield
    with torch.no_grad():
        for x in tensors_of(model, optimizer, others):
            if x in before:  # the same tensor object, not one of equal numbers
                x.copy_(before[x])
            else:
                x.zero_()


def tensors_of(model: nn.Module, optimizer, others) -> list[Tensor]:
    """All tensors that a step changes."""
    states = [x for state in optimizer.state.values() for x in state.values()]
    state_tensors = [x for x in states if torch.is_tensor(x)]
    return [*model.parameters(), *model.buffers(), *others, *state_tensors]
