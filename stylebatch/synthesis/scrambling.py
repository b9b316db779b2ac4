"""An image with random phases: its amplitude spectrum, and nothing else of it that one could name."""

import torch
from torch import Tensor

from stylebatch.synthesis.problems import white_noise


def phase_scrambled(image: Tensor, seed: int) -> Tensor:
    """The image with the phases of white noise added to those of its Fourier transform.

    All channels get the same phases, so their relations, and with them the colours' covariance, stay. Means
    and amplitude spectra are those of the image; values may lie outside 0..255.

    Args:
        image: ``(3, H, W)``, 0..255.
        seed: Of the noise.

    Returns:
        ``(3, H, W)``, float32.
    """
    height, width = image.shape[1:]
    noise = white_noise(height, width, seed)[0].double()
    phases = torch.fft.fft2(noise - noise.mean()).angle()
    phases[0, 0] = 0  # the mean stays
    scrambled = torch.fft.fft2(image.double()) * torch.polar(torch.ones_like(phases), phases)
    image_again: Tensor = torch.fft.ifft2(scrambled).real.float()
    return image_again
