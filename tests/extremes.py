"""Logits at which a softmax written by hand may break: tried one by one."""

import pytest
import torch

EXTREME = {
    "ordinary": torch.randn(6, 5, generator=torch.Generator().manual_seed(1)),
    "large": torch.tensor([[1000.0, 0.0, -1000.0], [1e4, 1e4, 1e4], [-1e4, -1e4, 3e4]]),
    "largest": torch.tensor([[3e38, 0.0], [-3e38, -3e38]]),
    "equal": torch.zeros(2, 4),
    "masked": torch.tensor([[0.0, -torch.inf, 1.0]]),
    "one class": torch.tensor([[7.0], [-7.0]]),
}
extremes = pytest.mark.parametrize("z", EXTREME.values(), ids=EXTREME)
