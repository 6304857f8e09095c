"""Muon (Jordan and others, 2024): for kernels, steps that are large in every direction.

A gradient's largest singular values often hide the others, so that a step along it
changes few of the directions that a kernel could change in. Muon makes all of them
equally large.
"""

import math

import torch
from torch import Tensor

from lessons_src.expect import expect, expect_between, expect_int, expect_type


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearly U Vᵀ, where the matrix is U S Vᵀ: all singular values between 0.6 and 1.3.

    matrix (n, m) float -> (n, m). Each step (of Newton and Schulz) puts every singular
    value s in the place of 3.4445 s - 4.775 s³ + 2.0315 s⁵, and needs nothing but
    products of matrices. A zero stays zero, and tiny ones do not get far.
    """
    expect_type("matrix", matrix, Tensor)
    fits = matrix.ndim == 2 and matrix.is_floating_point()
    expect(fits, "orthogonal needs a matrix (n, m) float", matrix)
    expect_int("steps", steps, low=0)
    if len(matrix) > matrix.shape[1]:  # the smaller square costs less
        return orthogonal(matrix.T, steps).T
    x = matrix / (matrix.norm() + 1e-7)  # so that no singular value is above 1
    for _ in range(steps):
        square = x @ x.T  # (n, n)
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x


class Muon(torch.optim.AdamW):
    """Muon for kernels (out, in, k, k), AdamW for everything else.

    A kernel goes by `lr` along its orthogonal momentum (with Nesterov's look ahead). It
    is kept at the length √out, which is no loss where batch norm follows, and makes lr
    the size of a step against the kernel's. The others have the rate `adam_lr`.
    """

    def __init__(self, params, lr, adam_lr=0.01, momentum=0.6, weight_decay=0.01):
        expect_between("momentum", momentum)
        rates = {"lr": lr, "adam_lr": adam_lr, "weight_decay": weight_decay}
        for name, value in rates.items():
            expect_between(name, value, high=math.inf)
        needed = (
            "params must be the parameters themselves: Muon(model.parameters(), lr=0.1)"
        )
        several = hasattr(params, "__iter__") and not isinstance(params, Tensor)
        expect(several, needed, params)
        params = list(params)
        are_tensors = params and all(isinstance(p, Tensor) for p in params)
        expect(are_tensors, needed, next(iter(params), None))
        kernels = [p for p in params if p.ndim == 4]
        others = [p for p in params if p.ndim != 4]
        groups = [
            {"params": kernels, "lr": lr, "momentum": momentum, "weight_decay": 0},
            {"params": others, "lr": adam_lr},
        ]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, fused=True)
        # Among all other settings, so that what describes an optimizer finds them
        self.defaults |= {"adam_lr": adam_lr, "momentum": momentum}

    def add_param_group(self, group):
        """The two groups of the start. ValueError on a third: AdamW would have it all."""
        needed = "Muon is made of all parameters at once, after the last layer is there"
        expect(len(self.param_groups) < 2, needed, "another group")
        super().add_param_group(group)

    @torch.no_grad()
    def step(self, closure=None):
        """One step of all parameters that have a gradient; that of a kernel is freed."""
        expect(closure is None, "Muon's step() takes no closure", closure)
        group = self.param_groups[0]
        for kernel in group["params"]:
            if kernel.grad is not None:
                self.step_of_kernel(kernel, group["lr"], group["momentum"])
                kernel.grad = None  # so that AdamW leaves it alone
        super().step()

    def step_of_kernel(self, kernel, lr, momentum):
        """kernel: (out, in, k, k), as a matrix (out, in·k·k)."""
        state = self.state[kernel]
        if not state:  # "step": AdamW looks for it when a state is loaded
            state["step"], state["velocity"] = torch.zeros(()), torch.zeros_like(kernel)
        velocity = state["velocity"].mul_(momentum).add_(kernel.grad)
        ahead = kernel.grad + momentum * velocity
        kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
        kernel.sub_(lr * orthogonal(ahead.flatten(1)).reshape(kernel.shape))
