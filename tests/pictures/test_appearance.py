"""Mean, contrast, histogram and spectrum: asked, given, and measured after clipping and quantising."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stylebatch.pictures.appearance import (
    Appearance,
    Pixels,
    adjusted,
    from_light,
    luminance,
    measured,
    mixed_values,
    radial_amplitudes,
    sorted_values,
    to_light,
)

PHOTOGRAPHS = ("astronaut", "coffee")
TEXTURES = ("gravel", "brick")
SATURATED = "ihc"
NAMES = (*PHOTOGRAPHS, *TEXTURES, SATURATED)
MEAN_TOLERANCE = 0.002
"""Stated in docs/stimuli.md, as are the next ones."""
CONTRAST_TOLERANCE = 0.005
HISTOGRAM_TOLERANCE = 0.003
SPECTRUM_TOLERANCE = 0.1


def picture(name: str, width: int = 96, height: int = 80) -> Pixels:
    package = find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "data"
    with Image.open(next(folder.glob(f"{name}.*g"))) as image:
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small).astype(np.float64) / 255


def quantised(pixels: Pixels) -> Pixels:
    return np.rint(255 * pixels.clip(0, 1)) / 255


def achieved(name: str, **wanted: Any) -> dict[str, float]:
    asked = Appearance(**{"light": "linear", **wanted})
    return dict(measured(quantised(adjusted(picture(name), asked)), asked))


class TestLight:
    def test_the_published_values_of_the_transfer_function(self) -> None:
        """IEC 61966-2-1: half the light is 188 of 255."""
        levels = np.array([0, 0.04045, 188 / 255, 1])
        assert to_light(levels, "linear") == pytest.approx([0, 0.0031308, 0.5, 1], abs=3e-3)
        assert from_light(np.array(0.5), "linear") * 255 == pytest.approx(188, abs=0.5)

    def test_back_and_forth(self) -> None:
        values = np.linspace(0, 1, 1001)
        for light in ("linear", "srgb"):
            assert from_light(to_light(values, light), light) == pytest.approx(values, abs=1e-6)

    def test_what_is_out_of_range_stays_so_on_the_way_back(self) -> None:
        assert from_light(np.array([-0.1, 1.2]), "linear") == pytest.approx([-0.1, 1.2])

    def test_white_has_luminance_one(self) -> None:
        assert luminance(np.ones((2, 2, 3))) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("light", ["linear", "srgb"])
class TestReached:
    @pytest.mark.parametrize("mean", [0.15, 0.35])
    def test_a_mean_luminance(self, name: str, light: str, mean: float) -> None:
        assert achieved(name, light=light, mean_luminance=mean)["mean_luminance"] == pytest.approx(
            mean, abs=MEAN_TOLERANCE
        )

    def test_a_contrast(self, name: str, light: str) -> None:
        own = measured(picture(name), Appearance(light))
        got = achieved(name, light=light, rms_contrast=0.3)
        assert got["rms_contrast"] == pytest.approx(0.3, abs=CONTRAST_TOLERANCE)
        assert got["mean_luminance"] == pytest.approx(own["mean_luminance"], abs=MEAN_TOLERANCE)

    def test_both(self, name: str, light: str) -> None:
        got = achieved(name, light=light, mean_luminance=0.4, rms_contrast=0.25)
        assert got["mean_luminance"] == pytest.approx(0.4, abs=MEAN_TOLERANCE)
        assert got["rms_contrast"] == pytest.approx(0.25, abs=CONTRAST_TOLERANCE)

    @pytest.mark.parametrize("reference", [*PHOTOGRAPHS, *TEXTURES])
    def test_a_histogram(self, name: str, light: str, reference: str) -> None:
        wanted = sorted_values(picture(reference, 70, 50), light)
        assert achieved(name, light=light, histogram=wanted)["histogram_distance"] < HISTOGRAM_TOLERANCE

    def test_a_spectrum(self, name: str, light: str) -> None:
        wanted = radial_amplitudes(picture("astronaut"), light)
        before = measured(picture(name), Appearance(light, spectrum=wanted))["spectrum_distance"]
        got = achieved(name, light=light, spectrum=wanted)["spectrum_distance"]
        assert got < max(SPECTRUM_TOLERANCE, before / 4)

    def test_a_spectrum_with_a_contrast_is_a_shape(self, name: str, light: str) -> None:
        wanted = radial_amplitudes(picture("astronaut"), light)
        got = achieved(name, light=light, spectrum=wanted, rms_contrast=0.2, mean_luminance=0.4)
        assert got["rms_contrast"] == pytest.approx(0.2, abs=CONTRAST_TOLERANCE)


def test_what_cannot_be_reached_is_said() -> None:
    """Black and white pixels alone, half of each, have a contrast of 1."""
    got = achieved("astronaut", mean_luminance=0.5, rms_contrast=3.0)
    assert got["rms_contrast"] < 1.2
    assert got["mean_luminance"] == pytest.approx(0.5, abs=0.1)


def test_a_mean_alone_keeps_the_contrast() -> None:
    own = measured(picture("gravel"), Appearance("linear"))
    got = achieved("gravel", mean_luminance=0.8 * own["mean_luminance"])
    assert got["rms_contrast"] == pytest.approx(own["rms_contrast"], abs=CONTRAST_TOLERANCE)


def test_a_picture_of_one_colour_gets_the_mean_and_no_noise() -> None:
    wanted = Appearance("linear", mean_luminance=0.5, rms_contrast=0.5)
    got = adjusted(np.full((8, 8, 3), 0.3), wanted)
    assert np.ptp(got) < 1e-9
    assert measured(got, wanted)["mean_luminance"] == pytest.approx(0.5)


def test_a_histogram_and_a_spectrum_together() -> None:
    """The histogram comes last and is met; the spectrum comes nearer than it was."""
    values, amplitudes = (
        sorted_values(picture("coffee"), "linear"),
        radial_amplitudes(picture("coffee"), "linear"),
    )
    wanted = Appearance("linear", histogram=values, spectrum=amplitudes)
    before, after = (
        measured(each, wanted) for each in (picture("gravel"), quantised(adjusted(picture("gravel"), wanted)))
    )
    assert after["histogram_distance"] < HISTOGRAM_TOLERANCE
    assert after["spectrum_distance"] < before["spectrum_distance"] / 2


def test_equal_pixels_are_told_apart_by_their_surroundings() -> None:
    """A flat grey beside a white edge: what is nearer to the white becomes the lighter part."""
    flat = np.zeros((1, 4, 3)) + 0.2
    flat[:, 3] = 1
    wanted = Appearance("srgb", histogram=np.stack([[0.1, 0.2, 0.3, 0.9]] * 3, axis=1))
    got = adjusted(flat, wanted)[0, :, 0]
    assert got[2] == pytest.approx(0.3)
    assert got[3] == pytest.approx(0.9)


def test_histograms_mix_by_shares() -> None:
    dark, light = np.full((4, 3), 0.2), np.full((2, 3), 0.8)
    assert mixed_values([dark, light], [0.75, 0.25]) == pytest.approx(0.35)


def test_a_grating_is_a_peak_in_the_spectrum() -> None:
    across = np.arange(64) / 64
    grating = np.repeat((0.5 + 0.2 * np.cos(2 * np.pi * 8 * across))[None, :, None], 64, 0).repeat(3, 2)
    amplitudes = radial_amplitudes(grating, "srgb")
    assert amplitudes[0] == pytest.approx(0.5)
    assert amplitudes[1:].argmax() + 1 == 8
