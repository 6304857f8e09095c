"""lessons_src.scale.graph: a step as one CUDA graph, and steps that leave no trace."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.models import RandomShift
from lessons_src.scale.graph import graphed, preserve_state
from lessons_src.train import TrainingError

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


def training(name, device="cpu"):
    """A network with all that draws numbers or keeps some, its optimizer, a counter, a step."""
    torch.manual_seed(0)
    layers = [
        RandomShift(1),
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
    ]
    model = nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(400, 4)).to(device)
    x = torch.randn(32, 1, 12, 12, device=device)
    y = torch.arange(32, device=device) % 4
    optimizer = OPTIMIZERS[name](model.parameters())
    if "capturable" in optimizer.param_groups[0]:
        optimizer.param_groups[0]["capturable"] = device == "cuda"
    counter = torch.tensor([7], device=device)

    def step():
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        counter.add_(1)

    return model, optimizer, counter, step


def test_without_cuda_a_graph_is_the_step_itself(monkeypatch):
    """No warm-up, no copy: the same function."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def step():
        raise AssertionError("was run")

    assert graphed(step) is step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_undone_leaves_no_trace(name):
    """Steps inside it change nothing, neither on a new optimizer nor on one with a past; every
    tensor stays where it was, and state that was made inside is zero."""
    model, optimizer, counter, step = training(name)

    def everything():
        states = [x for state in optimizer.state.values() for x in state.values()]
        tensors = [x for x in states if torch.is_tensor(x)]
        return [*model.state_dict().values(), counter, *tensors]

    for past in range(2):
        before = {x.data_ptr(): x.clone() for x in everything()}
        random_state = torch.get_rng_state()
        with preserve_state(model, optimizer, counter):
            step()
            step()
            assert counter == 9 + past
        assert torch.equal(torch.get_rng_state(), random_state)
        after = {x.data_ptr(): x for x in everything()}
        assert before.keys() <= after.keys()
        assert all(torch.equal(after[place], before[place]) for place in before)
        new = [x for place, x in after.items() if place not in before]
        assert all((x == 0).all() for x in new)
        step()  # now it has a past


def test_a_new_state_is_zero_where_the_optimizers_start():
    """After `preserve_state`, SGD, Adam and AdamW step at first as if they were new."""
    for name in OPTIMIZERS:
        model, optimizer, counter, step = training(name)
        with preserve_state(model, optimizer, counter):
            step()
        step()
        other, _, _, other_step = training(name)
        other_step()
        pairs = zip(model.parameters(), other.parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs), name


@on_a_gpu
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_on_a_gpu_the_graph_equals_its_steps(name, monkeypatch):
    """Graph and single operations draw the same numbers and train to the same weights."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    weights = []
    for wrap in (lambda step: step, graphed):
        model, optimizer, counter, step = training(name, "cuda")
        with preserve_state(model, optimizer, counter):
            run = wrap(step)
        for _ in range(10):
            run()
        assert counter.item() == 17
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-3)


@on_a_gpu
def test_on_a_gpu_a_step_that_reads_a_number_is_named():
    """The message says what cannot be recorded, and what to do."""
    x = torch.ones(3, device="cuda")
    with pytest.raises(TrainingError, match=r"cannot become a CUDA graph.*Look for what"):
        graphed(lambda: x.sum().item(), warmup=0)
