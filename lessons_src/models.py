"""The layers and networks that more than one lesson uses; each is written out in a lesson first."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandomShift(nn.Module):
    """Augmentation as a layer: in training each image moves by up to `pixels`, zeros come in.

    x (B, C, H, W) -> the same shape; every image has its own shift, uniform over the
    (2 pixels + 1)² possible ones. In evaluation it does nothing. Developed in lesson 06.
    """

    def __init__(self, pixels: int):
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.pixels == 0:
            return x
        (B, _, H, W), p = x.shape, self.pixels
        # All windows of the padded image, as a view: no pixel is copied yet.
        windows = F.pad(x, (p, p, p, p)).unfold(2, H, 1).unfold(3, W, 1)  # (B, C, 2p+1, 2p+1, H, W)
        dy, dx = torch.randint(2 * p + 1, (2, B), device=x.device)  # (B,) each
        return windows[torch.arange(B, device=x.device), :, dy, dx]  # (B, C, H, W)
