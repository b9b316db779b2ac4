"""Luminance, contrast, histogram and amplitude spectrum: measuring them, and giving a picture others.

Everything happens in the light that is asked for: ``linear`` is proportional to what a calibrated display
emits (IEC 61966-2-1), ``srgb`` is the values of the file. In both, 1 is white, and luminance is the sum of
the channels weighted as in Rec. 709; in ``srgb`` that is usually called luma.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float64]
"""``(H, W, 3)``, RGB in sRGB values, 0..1 where in range."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""The weights of red, green and blue (Rec. 709)."""
MOST_ROUNDS = 40
"""Of correcting for what clipping took away."""
CLOSE = 1e-5
"""Difference of a mean or a contrast from the one asked for at which there is nothing more to correct."""
LEAST_DEVIATION = 1e-6
"""Standard deviation of the luminance below which a picture is of one colour."""
LARGEST_FACTOR = 4.0
"""On the amplitude of a frequency, in one round: what a picture hardly has is not made of nothing at once."""
SPECTRUM_ROUNDS = 8
"""Of matching a spectrum; each is followed by clipping, which changes it again."""
BOTH_ROUNDS = 20
"""Of matching a spectrum and a histogram in turn, the histogram last."""
LEAST_AMPLITUDE = 1e-9
"""Added to amplitudes of a luminance of 0..1, over the number of pixels, so that their ratios are finite."""


@dataclass(frozen=True)
class Appearance:
    """What a picture is to be given. None: whatever it has."""

    light: str
    """``linear`` or ``srgb``."""
    mean_luminance: float | None = None
    """0..1."""
    rms_contrast: float | None = None
    """Standard deviation of the luminance over its mean."""
    histogram: Pixels | None = None
    """The sorted values of each channel, ``(n, 3)``: see :func:`sorted_values`."""
    spectrum: NDArray[np.float64] | None = None
    """Amplitude by frequency: see :func:`radial_amplitudes`."""

    @property
    def asks_for_something(self) -> bool:
        """Whether a picture has to be changed at all."""
        wanted = (self.mean_luminance, self.rms_contrast, self.histogram, self.spectrum)
        return any(value is not None for value in wanted)


def to_light(pixels: Pixels, light: str) -> Pixels:
    """sRGB values as amounts of light; those outside 0..1 are clipped."""
    clipped = pixels.clip(0, 1)
    if light == "srgb":
        return clipped
    amounts: Pixels = np.where(clipped <= 0.04045, clipped / 12.92, ((clipped + 0.055) / 1.055) ** 2.4)
    return amounts


def from_light(amounts: Pixels, light: str) -> Pixels:
    """Amounts of light as sRGB values. Those outside 0..1 stay outside, on the straight lines at the ends."""
    if light == "srgb":
        return amounts
    inside = amounts.clip(0, 1)
    values: Pixels = np.where(inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055)
    values += amounts - inside
    return values


def luminance(amounts: Pixels) -> NDArray[np.float64]:
    """``(H, W)``, from ``(H, W, 3)`` in whichever light."""
    values: NDArray[np.float64] = amounts @ LUMINANCE
    return values


def sorted_values(pixels: Pixels, light: str) -> Pixels:
    """Each channel's values in order, ``(H W, 3)``, in the light given."""
    return np.sort(to_light(pixels, light).reshape(-1, 3), axis=0)


def mixed_values(each: Sequence[Pixels], shares: Sequence[float]) -> Pixels:
    """The histogram between several: their values at equal ranks, averaged by shares that sum to 1."""
    count = max(len(values) for values in each)
    return sum(
        (share * at_ranks(values, count) for values, share in zip(each, shares, strict=True)),
        start=np.zeros((count, 3)),
    )


def at_ranks(values: Pixels, count: int) -> Pixels:
    """So many values of the same distribution as ``(n, 3)`` sorted ones, in order: ``(count, 3)``."""
    if len(values) == count:
        return values
    ranks, own = (np.arange(count) + 0.5) / count, (np.arange(len(values)) + 0.5) / len(values)
    return np.stack([np.interp(ranks, own, values[:, channel]) for channel in range(3)], axis=1)


def radial_amplitudes(pixels: Pixels, light: str) -> NDArray[np.float64]:
    """The amplitude spectrum of the luminance, averaged over orientations.

    Returns:
        The mean of ``|FFT| / (H W)`` over all frequencies whose distance from 0 rounds to 0, 1, 2 ... cycles
        per longer side; the first is the mean luminance.
    """
    light_amounts = luminance(to_light(pixels, light))
    rings = _rings(*light_amounts.shape)
    return _ring_means(np.abs(np.fft.fft2(light_amounts)), rings) / light_amounts.size


def _rings(height: int, width: int) -> NDArray[np.intp]:
    """For every frequency of a Fourier transform, cycles per longer side, rounded."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    rings: NDArray[np.intp] = np.rint(np.hypot(down, across) * max(height, width)).astype(np.intp)
    return rings


def _ring_means(values: NDArray[np.float64], rings: NDArray[np.intp]) -> NDArray[np.float64]:
    counts = np.bincount(rings.ravel())
    return np.bincount(rings.ravel(), values.ravel()) / np.maximum(counts, 1)


def adjusted(pixels: Pixels, wanted: Appearance) -> Pixels:
    """The picture with another appearance, as near as 0..1 allows.

    The spectrum comes first, then the histogram, then contrast and mean; the last two are corrected for what
    clipping takes away from them.

    Args:
        pixels: What the solver made, clipped first of all.
        wanted: Its appearance.

    Returns:
        Values that may lie a little outside 0..1, for the caller to clip and quantise.
    """
    amounts = to_light(pixels, wanted.light)
    if wanted.spectrum is not None and wanted.histogram is not None:
        for _ in range(BOTH_ROUNDS):
            amounts = _with_spectrum(amounts, wanted.spectrum).clip(0, 1)
            amounts = _with_histogram(amounts, wanted.histogram)
    elif wanted.spectrum is not None:
        for _ in range(SPECTRUM_ROUNDS):
            amounts = _with_spectrum(amounts.clip(0, 1), wanted.spectrum)
    elif wanted.histogram is not None:
        amounts = _with_histogram(amounts, wanted.histogram)
    if wanted.mean_luminance is not None or wanted.rms_contrast is not None:
        amounts = _with_luminance(amounts, wanted.mean_luminance, wanted.rms_contrast)
    return from_light(amounts, wanted.light)


def _with_luminance(amounts: Pixels, mean: float | None, contrast: float | None) -> Pixels:
    """All channels times a factor, plus an amount, so that the clipped luminance has this mean and contrast.

    A mean alone is reached by a factor alone, which leaves the contrast as it is.
    """
    first_mean, first_contrast = _moments(amounts)
    mean = first_mean if mean is None else mean
    contrast = first_contrast if contrast is None else contrast
    best, least = amounts, np.inf
    if first_contrast * first_mean < LEAST_DEVIATION:  # a picture of one colour has no contrast to raise
        return amounts - first_mean + mean
    middle, factor = mean, contrast * mean / (first_contrast * first_mean)
    for _ in range(MOST_ROUNDS):
        tried = (amounts - first_mean) * factor + middle
        got_mean, got_contrast = _moments(tried.clip(0, 1))
        away = abs(got_mean - mean) + abs(got_contrast - contrast)
        if away < least:
            best, least = tried, away
        if away < CLOSE:
            break
        middle += mean - got_mean
        factor *= float(np.clip(contrast * mean / max(got_contrast * got_mean, LEAST_DEVIATION), 0.5, 2))
    return best


def luminance_moments(pixels: Pixels, light: str) -> tuple[float, float]:
    """Mean and RMS contrast of the luminance of a picture of sRGB values, in the light given."""
    return _moments(to_light(pixels, light))


def _moments(amounts: Pixels) -> tuple[float, float]:
    """Mean and RMS contrast of the luminance."""
    values = luminance(amounts)
    mean = float(values.mean())
    return mean, float(values.std()) / mean if mean > 0 else 0.0


def _with_histogram(amounts: Pixels, wanted: Pixels) -> Pixels:
    """Each channel's values replaced, rank by rank; equal values are ranked by what is around them."""
    height, width, _ = amounts.shape
    target = at_ranks(wanted, height * width)
    surroundings = _blurred(amounts)
    matched = np.empty_like(amounts).reshape(-1, 3)
    for channel in range(3):
        order = np.lexsort((surroundings[:, :, channel].ravel(), amounts[:, :, channel].ravel()))
        matched[order, channel] = target[:, channel]
    return matched.reshape(height, width, 3)


def _blurred(amounts: Pixels) -> Pixels:
    """The mean of each pixel and its eight neighbours."""
    height, width, _ = amounts.shape
    padded = np.pad(amounts, ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    mean: Pixels = np.mean(shifted, axis=0)
    return mean


def _with_spectrum(amounts: Pixels, wanted: NDArray[np.float64]) -> Pixels:
    """The luminance with these amplitudes and its own phases and mean; all channels change alike."""
    own = luminance(amounts)
    transform = np.fft.fft2(own)
    rings = _rings(*own.shape)
    floor = LEAST_AMPLITUDE
    found = _ring_means(np.abs(transform), rings) / own.size
    factors = ((wanted + floor) / (found + floor)).clip(0, LARGEST_FACTOR)
    factors[0] = 1
    changed = np.fft.ifft2(transform * factors[rings]).real
    return amounts + (changed - own)[:, :, None]


def measured(pixels: Pixels, wanted: Appearance) -> Mapping[str, float]:
    """What a published picture has of the appearance that was asked of it.

    Args:
        pixels: Of the published file, ``(H, W, 3)``, 0..1.
        wanted: What was asked.

    Returns:
        ``mean_luminance`` and ``rms_contrast`` always; ``histogram_distance`` if one was asked for: the mean
        difference of the sorted values, where white is 1; ``spectrum_distance``: the root mean square of
        ``ln(amplitude / wanted amplitude)`` over the rings from 1 to the finest grating that pixels
        can show upright.
    """
    mean, contrast = luminance_moments(pixels, wanted.light)
    found = {"mean_luminance": mean, "rms_contrast": contrast}
    if wanted.histogram is not None:
        own = sorted_values(pixels, wanted.light)
        found["histogram_distance"] = float(np.abs(own - at_ranks(wanted.histogram, len(own))).mean())
    if wanted.spectrum is not None:
        found["spectrum_distance"] = _spectrum_distance(pixels, wanted.spectrum, wanted.light)
    return found


def _spectrum_distance(pixels: Pixels, wanted: NDArray[np.float64], light: str) -> float:
    height, width, _ = pixels.shape
    compared = slice(1, max(2, max(height, width) // 2 + 1))
    own = radial_amplitudes(pixels, light)[compared] + LEAST_AMPLITUDE
    return float(np.sqrt(np.mean(np.log(own / (wanted[compared] + LEAST_AMPLITUDE)) ** 2)))
