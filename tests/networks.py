"""What a network gives, for tests that compare two that should be the same."""

import torch
import torch.nn.functional as F
from lesson_source import close, drawn

from lessons_src.models import mlp
from lessons_src.train import seed_everything


def forward_pass(build, x):
    """Output, gradients and buffers of a network built and run from one seed,
    in training."""
    torch.manual_seed(3)
    model = build()
    out = model(x)
    gradients = torch.autograd.grad(out[:, 0].sum(), list(model.parameters()))
    return [out, *gradients, *model.buffers(), model.eval()(x)]


def takes_one_step_of_training(training_step) -> None:
    """A page's `training_step(model, x, y, optimizer)()` does what is written out here."""
    seed_everything(0)
    mine, theirs = mlp(784, 4, 10), mlp(784, 4, 10)
    theirs.load_state_dict(mine.state_dict())
    x, y = drawn((6, 784)).float(), torch.arange(6)
    training_step(mine, x, y, torch.optim.SGD(mine.parameters(), lr=0.1))()
    loss = F.cross_entropy(theirs(x), y, label_smoothing=0.1)
    gradients = torch.autograd.grad(loss, [*theirs.parameters()])
    for p, g in zip(theirs.parameters(), gradients, strict=True):
        p.data -= 0.1 * g
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(a, b, 1e-6)
