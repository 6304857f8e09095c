"""What a network gives, for tests that compare two that should be the same."""

import torch


def forward_pass(build, x):
    """Output, gradients and buffers of a network built and run from one seed,
    in training."""
    torch.manual_seed(3)
    model = build()
    out = model(x)
    gradients = torch.autograd.grad(out[:, 0].sum(), list(model.parameters()))
    return [out, *gradients, *model.buffers(), model.eval()(x)]
