"""Soft bounds: a penalty that keeps pixels within 0..255 while the solver works.

The paper is silent on pixels that leave the displayable range; clipping them at the end raises the loss of
the picture that people get. The penalty is ``stiffness * sum(outside^2)``, with ``outside`` the distance of a
pixel value to the range. Each image's stiffness is a multiple of its own first gradient, so that one setting
holds for every convention, size and weight.
"""

import torch
from torch import Tensor

from stylebatch.synthesis.optimizers import keep_rows

LOW, HIGH = 0.0, 255.0
STIFFNESS = 0.05
"""Gradient of the penalty one grey level outside, in root mean squares of the first loss gradient."""


class SoftBounds:
    """The penalties of a batch of images."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self._stiffness = torch.zeros(batch, device=device)

    def penalty(self, rows: Tensor, loss_gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Penalty ``(B,)`` and its gradient ``(B, n)`` at images ``(B, n)``.

        Args:
            rows: Pixel values in grey levels.
            loss_gradients: The loss's gradients there; the first finite one sets an image's stiffness.
        """
        size = loss_gradients.square().mean(dim=1).sqrt()
        is_new = (self._stiffness == 0) & torch.isfinite(size)
        self._stiffness = torch.where(is_new, STIFFNESS / 2 * size, self._stiffness)
        outside = rows - rows.clamp(LOW, HIGH)
        return self._stiffness * outside.square().sum(dim=1), 2 * self._stiffness[:, None] * outside

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        keep_rows(self, rows)
