"""One pair without Ray: the public API, and files."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inmemory import MemoryStore, picture_array, picture_bytes
from PIL import Image

import stylebatch
from stylebatch import Recipe, Solution, StopReason, stylize, to_pillow
from stylebatch.errors import MemoryExceededError, NotFoundError, PictureError, SynthesisError, WeightsError
from stylebatch.pair import stylize as stylize_module
from stylebatch.pair.stylize import stylize_file
from stylebatch.pictures import read_provenance
from stylebatch.synthesis.families import bundled_weights

QUICK = Recipe(size=32, iterations=2, start="content")
INFINITE = {"style_weight": 1e15, "style_layer_weights": [1e15] * 5}
"""A style loss that no float32 holds."""
CONTENT, STYLE, OTHER = picture_array(40, 30, 1), picture_array(32, 32, 2), picture_array(50, 25, 3)


@pytest.fixture(scope="module", autouse=True)
def one_network() -> Iterator[None]:
    yield
    stylize_module._cached_network.cache_clear()


class TestStylize:
    def test_it_returns_a_solution(self) -> None:
        solution = stylize(CONTENT, STYLE, QUICK)
        assert isinstance(solution, Solution)
        assert solution.image.shape == (3, 24, 32)
        assert torch.equal(solution.image, solution.image.round().clamp(0, 255))
        assert solution.loss == pytest.approx(solution.content_loss + solution.style_loss, rel=1e-5)
        assert (solution.evaluations, len(solution.loss_curve)) == (2, 2)
        assert solution.stop_reason is StopReason.ITERATIONS
        assert to_pillow(solution.image).size == (32, 24)

    def test_the_picture_changes_towards_the_style(self) -> None:
        solution = stylize(CONTENT, STYLE, QUICK.replace({"iterations": 5}))
        assert solution.loss_curve[-1] < solution.loss_curve[0]

    def test_images_and_arrays_are_the_same(self) -> None:
        from_arrays = stylize(CONTENT, STYLE, QUICK)
        from_images = stylize(Image.fromarray(CONTENT), Image.fromarray(STYLE), QUICK)
        assert torch.equal(from_arrays.image, from_images.image)
        assert from_arrays.loss == from_images.loss

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
    def test_any_mode_of_image_will_do(self, mode: str) -> None:
        grey = Image.fromarray(CONTENT).convert("L")
        image = (
            Image.fromarray(CONTENT[..., 0].astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
        )
        assert stylize(image, None, QUICK.replace({"iterations": 0})).image.shape == (3, 24, 32)

    @pytest.mark.parametrize("channels", [(), (3,), (4,)])
    def test_arrays_are_grey_rgb_or_rgba(self, channels: tuple[int, ...]) -> None:
        array = np.full((30, 40, *channels), 200, np.uint8)
        assert stylize(array, None, QUICK.replace({"iterations": 0})).image.shape == (3, 24, 32)

    @pytest.mark.parametrize("collect", [list, tuple])
    def test_several_styles_are_blended(self, collect: Any) -> None:
        blended = stylize(CONTENT, collect([STYLE, Image.fromarray(OTHER)]), QUICK)
        first = stylize(CONTENT, STYLE, QUICK)
        all_first = stylize(CONTENT, [STYLE, OTHER], QUICK.replace({"style_blend": [1, 0]}))
        assert not torch.equal(blended.image, first.image)
        assert torch.equal(all_first.image, first.image)

    @pytest.mark.parametrize("style", [None, []])
    def test_no_style_reconstructs_the_content(self, style: Any) -> None:
        solution = stylize(CONTENT, style, QUICK.replace({"start": "noise"}))
        assert solution.style_loss == 0
        assert solution.layer_losses.keys() == {"content_conv4_2"}

    def test_no_content_makes_a_texture(self) -> None:
        solution = stylize(None, OTHER, QUICK.replace({"start": "noise"}))
        assert solution.image.shape == (3, 16, 32)
        assert solution.content_loss == 0

    def test_neither_is_refused(self) -> None:
        with pytest.raises(SynthesisError, match="needs a content image, a style image or both"):
            stylize(None, None, QUICK)

    def test_a_picture_that_does_not_fit_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("stylebatch.pair.memory.available_bytes", lambda device: 1_000_000)
        with pytest.raises(MemoryExceededError, match="this picture of 32 x 24 pixels needs"):
            stylize(CONTENT, STYLE, QUICK)

    def test_running_out_of_memory_is_said_in_the_same_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

        monkeypatch.setattr(stylize_module, "synthesize", fail)
        with pytest.raises(MemoryExceededError, match=r"which ran out .*9 bytes.*; use a smaller size"):
            stylize(CONTENT, STYLE, QUICK)

    def test_a_texture_cannot_start_from_the_content(self) -> None:
        with pytest.raises(SynthesisError, match="starts from the content, but the pair has none"):
            stylize(None, STYLE, QUICK)

    @pytest.mark.parametrize(
        "array",
        [
            CONTENT.astype(np.float32),
            CONTENT / 255,
            CONTENT.astype(np.int64),
            CONTENT[None],
            CONTENT[..., :2],
            CONTENT[:0],
        ],
    )
    def test_arrays_are_not_guessed_at(self, array: np.ndarray) -> None:
        with pytest.raises(PictureError, match="is not a picture; convert it to uint8"):
            stylize(array, STYLE, QUICK)
        with pytest.raises(PictureError, match="is not a picture; convert it to uint8"):
            stylize(CONTENT, array, QUICK)

    def test_the_default_recipe_is_the_papers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Recipe] = []

        def noted(network: Any, problems: Any, **_: Any) -> list[Solution]:
            seen.append(problems[0].recipe)
            return [None]  # type: ignore[list-item]

        monkeypatch.setattr(stylize_module, "synthesize", noted)
        monkeypatch.setattr(stylize_module, "TargetCache", FakeTargets)
        stylize(CONTENT, STYLE)
        assert seen == [Recipe()]

    def test_the_same_call_gives_the_same_picture(self) -> None:
        noise = QUICK.replace({"start": "noise", "seed": 5})
        one, two = (stylize(CONTENT, STYLE, noise) for _ in range(2))
        assert torch.equal(one.image, two.image)
        assert one.loss_curve == two.loss_curve
        other = stylize(CONTENT, STYLE, noise.replace({"seed": 6}))
        assert not torch.equal(one.image, other.image)

    def test_the_losses_are_those_of_the_format(self) -> None:
        losses = {
            format: stylize(CONTENT, STYLE, QUICK.replace({"format": format, "quality": 20})).loss
            for format in ("png", "jpeg", "npy")
        }
        assert losses["jpeg"] > losses["png"] > 0
        assert losses["npy"] == pytest.approx(losses["png"], rel=0.05)

    def test_a_start_image_by_location(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "start.png").write_bytes(picture_bytes(32, 24, 9))
        monkeypatch.chdir(tmp_path)
        still = QUICK.replace({"start": "./start.png", "iterations": 0})
        assert np.array_equal(
            stylize(CONTENT, STYLE, still).image.permute(1, 2, 0).numpy(), picture_array(32, 24, 9)
        )
        with pytest.raises(NotFoundError, match=r"gone\.png"):
            stylize(CONTENT, STYLE, still.replace({"start": "./gone.png"}))

    def test_evaluations_are_reported(self) -> None:
        seen: list[int] = []
        stylize(CONTENT, STYLE, QUICK, on_evaluation=seen.append)
        assert seen == [1, 2]

    def test_a_loss_that_is_not_finite_is_no_exception(self) -> None:
        solution = stylize(CONTENT, STYLE, QUICK.replace(INFINITE))
        assert solution.stop_reason is StopReason.NOT_FINITE
        assert torch.isfinite(solution.image).all()


class FakeTargets:
    def __init__(self, capacity: int) -> None:
        pass

    def problem(self, network: Any, loaded: Any) -> Any:
        return loaded


class TestWeights:
    def test_a_loaded_network(self, network: Any) -> None:
        solution = stylize(CONTENT, STYLE, QUICK, weights=network)
        assert network.calls > 0
        assert torch.equal(solution.image, stylize(CONTENT, STYLE, QUICK).image)

    def test_a_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copy(bundled_weights(), tmp_path / "vgg.pth")
        monkeypatch.chdir(tmp_path)
        loaded: list[str] = []
        real = stylize_module.load_network

        def noted(recipe: Recipe, *rest: Any) -> Any:
            loaded.append(recipe.weights)
            return real(recipe, *rest)

        monkeypatch.setattr(stylize_module, "load_network", noted)
        for _ in range(2):  # a loop over stylize loads the network once
            stylize(CONTENT, STYLE, QUICK.replace({"iterations": 0}), weights="./vgg.pth")
        assert loaded == [f"{tmp_path}/vgg.pth"]

    def test_a_path_object_is_not_ignored(self, tmp_path: Path) -> None:
        with pytest.raises((WeightsError, TypeError)):
            stylize(CONTENT, STYLE, QUICK, weights=tmp_path / "gone.pth")  # type: ignore[arg-type]

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"gone\.pth cannot be read"):
            stylize(CONTENT, STYLE, QUICK, weights=f"{tmp_path}/gone.pth")


class TestStylizeFile:
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore({"/in/c.png": picture_bytes(40, 30, 1), "/in/s.png": picture_bytes(32, 32, 2)})

    def test_the_file_is_the_solution(self, store: MemoryStore) -> None:
        solution = stylize_file("/in/c.png", ["/in/s.png"], "/out/result.png", QUICK, store)
        assert torch.equal(solution.image, stylize(CONTENT, STYLE, QUICK).image)
        provenance = read_provenance(store.objects["/out/result.png"], "result.png")
        assert provenance["pair_id"] == "result"
        assert (provenance["content_name"], provenance["style_names"]) == ("c.png", ["s.png"])
        assert provenance["loss"] == solution.loss
        assert provenance["stylebatch_version"] == stylebatch.__version__
        assert "/in" not in str(provenance)

    def test_the_same_work_gives_the_same_bytes(self, store: MemoryStore) -> None:
        for name in ("one", "two"):
            stylize_file("/in/c.png", ["/in/s.png"], f"/{name}/result.png", QUICK, store)
        assert store.objects["/one/result.png"] == store.objects["/two/result.png"]

    def test_what_fails_writes_nothing(self, store: MemoryStore) -> None:
        before = dict(store.objects)
        with pytest.raises(NotFoundError):
            stylize_file("/in/gone.png", ["/in/s.png"], "/out/result.png", QUICK, store)
        with pytest.raises(SynthesisError, match="the loss was not finite"):
            stylize_file("/in/c.png", ["/in/s.png"], "/out/r.png", QUICK.replace(INFINITE), store)
        assert store.objects == before

    def test_a_texture_and_a_reconstruction(self, store: MemoryStore) -> None:
        noise = QUICK.replace({"start": "noise"})
        assert stylize_file(None, ["/in/s.png"], "/out/t.png", noise, store).content_loss == 0
        assert stylize_file("/in/c.png", [], "/out/r.png", noise, store).style_loss == 0
