"""The measures by pictures whose measure is known, and the paper's statements by the real network."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from figurejobs import finish, pairs_of, png
from inmemory import MemoryStore
from PIL import Image, ImageFilter

from stylebatch.design import figure1, figure2, figure3, with_fields
from stylebatch.pair.stylize import stylize
from stylebatch.pictures import decode
from stylebatch.pictures.encoding import to_pillow
from stylebatch.report.panels import figure_panels
from stylebatch.report.statements import SLACK, Statement, pixel_error, statements, structure_scale
from stylebatch.results import read_results
from stylebatch.synthesis.problems import Solution

CONTENT, STYLE = "/in/content.png", "/in/style.png"


def noise(side: int = 256, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(values)


class TestStatement:
    @pytest.mark.parametrize(
        ("numbers", "direction", "holds"),
        [
            ([1.0, 2.0, 3.0], "rises", True),
            ([1.0, 3.0, 2.9], "rises", False),
            ([3.0, 2.0, 1.0], "falls", True),
            ([3.0, 1.0, 1.1], "falls", False),
            ([1.0, 2.0, 3.0], "falls", False),
        ],
    )
    def test_every_neighbour_counts(self, numbers: list[float], direction: str, holds: bool) -> None:
        assert Statement("x", dict(zip("abc", numbers, strict=True)), direction).holds == holds  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("numbers", "direction", "holds"),
        [
            ([10.0, 9.1, 12.0], "rises", True),
            ([10.0, 8.9, 12.0], "rises", False),
            ([10.0, 10.9, 8.0], "falls", True),
            ([10.0, 11.1, 8.0], "falls", False),
            ([10.0, 10.1, 10.9], "rises", False),
            ([10.0, 9.9, 9.1], "falls", False),
        ],
    )
    def test_slack_is_a_share_of_the_number_before_and_no_change_at_all(
        self, numbers: list[float], direction: str, holds: bool
    ) -> None:
        statement = Statement("x", dict(zip("abc", numbers, strict=True)), direction, slack=0.1)  # type: ignore[arg-type]
        assert statement.holds == holds

    def test_as_a_line(self) -> None:
        assert str(Statement("error", {"a": 2.1, "b": 5.349}, "rises")) == "error: a 2.1, b 5.35; rises: yes"
        falls = Statement("loss, row A", {"1e-5": 2e9, "1e-4": 3e9}, "falls", 0.1)
        assert str(falls) == "loss, row A: 1e-5 2e+09, 1e-4 3e+09; falls (within 10%): no"


class TestPixelError:
    def test_is_the_root_of_the_mean_square(self) -> None:
        black = Image.new("RGB", (4, 2))
        assert pixel_error(black, black) == 0
        assert pixel_error(Image.new("RGB", (4, 2), (3, 0, 0)), black) == pytest.approx(3**0.5)
        assert pixel_error(black, Image.new("RGB", (4, 2), (255, 255, 255))) == 255


class TestStructureScale:
    @pytest.mark.parametrize("sigma", [1.5, 3.0, 6.0])
    def test_noise_blurred_by_a_gaussian(self, sigma: float) -> None:
        """Its autocorrelation is exp(-r²/4σ²), which is 1/e at 2σ."""
        blurred = noise(512).filter(ImageFilter.GaussianBlur(sigma))
        assert structure_scale(blurred) == pytest.approx(2 * sigma, rel=0.1)

    def test_white_noise_has_none(self) -> None:
        assert structure_scale(noise()) < 1

    def test_contrast_and_brightness_do_not_matter(self) -> None:
        blurred = noise().filter(ImageFilter.GaussianBlur(3))
        changed = Image.fromarray((np.asarray(blurred) // 2 + 100).astype(np.uint8))
        assert structure_scale(changed) == pytest.approx(structure_scale(blurred), rel=0.02)

    def test_shape_does_not_matter(self) -> None:
        blurred = noise(512).filter(ImageFilter.GaussianBlur(3))
        assert structure_scale(blurred.crop((0, 0, 512, 200))) == pytest.approx(6, rel=0.15)

    def test_larger_copies_have_larger_structures(self) -> None:
        blurred = noise(128).filter(ImageFilter.GaussianBlur(2))
        enlarged = blurred.resize((384, 384), Image.Resampling.BICUBIC)
        assert structure_scale(enlarged) == pytest.approx(3 * structure_scale(blurred), rel=0.1)

    def test_at_most_a_quarter_of_the_side(self) -> None:
        ramp = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (200, 1))).convert("RGB")
        assert 45 < structure_scale(ramp) <= 51

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 50), (64, 64)])
    def test_one_colour_has_none(self, size: tuple[int, int]) -> None:
        assert structure_scale(Image.new("RGB", size, (9, 8, 7))) == 0

    @pytest.mark.parametrize("size", [(2, 1), (1, 9), (3, 3)])
    def test_tiny_pictures(self, size: tuple[int, int]) -> None:
        values = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
        assert 0 <= structure_scale(Image.fromarray(values)) < 2


class TestFigure2:
    def test_nothing_is_claimed(self) -> None:
        store = MemoryStore()
        finish(store, "/out", figure2(CONTENT, [STYLE]), lambda pair: noise(32))
        assert statements(store, figure_panels(read_results(store, "/out"))) == []


class TestFigure3:
    def test_losses_are_without_their_weights(self) -> None:
        store = MemoryStore()
        losses = {1e5: (8.0, 1e5), 1e4: (4.0, 2e4), 1e3: (2.0, 4e3), 1e2: (1.0, 8e2)}
        table = figure3(CONTENT, STYLE)
        finish(store, "/out", table, lambda pair: noise(16), lambda pair: losses[pair.recipe.style_weight])
        said = statements(store, figure_panels(read_results(store, "/out")))
        assert len(said) == 10
        assert all(statement.holds for statement in said)
        assert str(said[2]) == (
            "content loss, row B (conv1_1 to conv2_1): "
            "1e-5 8, 1e-4 4, 1e-3 2, 1e-2 1; falls (within 10%): yes"
        )
        assert str(said[3]) == (
            "style loss, row B (conv1_1 to conv2_1): 1e-5 1, 1e-4 2, 1e-3 4, 1e-2 8; rises (within 10%): yes"
        )

    def test_one_cell_that_stalls_is_told(self) -> None:
        store = MemoryStore()
        finish(
            store,
            "/out",
            figure3(CONTENT, STYLE),
            lambda pair: noise(16),
            lambda pair: (
                pair.recipe.style_weight,
                1e4 if pair.pair_id == "figure3-C-1e-4" else pair.recipe.style_weight**0.5,
            ),
        )
        said = statements(store, figure_panels(read_results(store, "/out")))
        assert [statement.what for statement in said if not statement.holds] == [
            "style loss, row C (conv1_1 to conv3_1)"
        ]


@pytest.fixture(scope="module")
def sources() -> dict[str, bytes]:
    """A photograph as the content and one with structures of all sizes as the style, 256 pixels high."""
    package = find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    folder, files = Path(package.origin).parent / "data", {}
    for uri, name in ((CONTENT, "chelsea.png"), (STYLE, "ihc.png")):
        picture = decode((folder / name).read_bytes(), name)
        files[uri] = png(picture.resize((256, 256)))
    return files


def synthesized(sources: dict[str, bytes], table: pa.Table) -> MemoryStore:
    """A store with the job over a design at ``/out``, made by the real network, without Ray."""
    store, solutions = MemoryStore(sources), dict[str, Solution]()
    pictures = {uri: decode(data, uri) for uri, data in sources.items()}
    for pair in pairs_of(table):
        content = pictures[pair.content] if pair.content else None
        solutions[pair.pair_id] = stylize(content, [pictures[uri] for uri in pair.styles], pair.recipe)
    finish(
        store,
        "/out",
        table,
        lambda pair: to_pillow(solutions[pair.pair_id].image),
        lambda pair: (solutions[pair.pair_id].content_loss, solutions[pair.pair_id].style_loss),
    )
    return store


@pytest.fixture(scope="module")
def said(sources: dict[str, bytes]) -> Callable[[pa.Table], list[Statement]]:
    """The statements over a design's results by the real network."""

    def measure(table: pa.Table) -> list[Statement]:
        store = synthesized(sources, table)
        return statements(store, figure_panels(read_results(store, "/out")))

    return measure


class TestThePaper:
    def test_figure1(self, said: Callable[[pa.Table], list[Statement]], tmp_path: Path) -> None:
        """Reconstruction from lower layers is almost perfect; the style's structures grow with the layers.

        From noise of little contrast: that of the start is all there is to see of small pictures until many
        more evaluations are done.
        """
        quiet = np.random.default_rng(0).normal(118, 8, (48, 48, 3)).round().astype(np.uint8)
        Image.fromarray(quiet).save(tmp_path / "quiet.png")
        table = with_fields(figure1(CONTENT, STYLE), {"size": 48, "iterations": 40})
        starts = pa.array([f"{tmp_path}/quiet.png"] * table.num_rows)
        errors, scales = said(table.set_column(table.column_names.index("start"), "start", starts))
        assert errors.holds, str(errors)
        assert errors.numbers["a"] < 5 < 25 < errors.numbers["e"]
        assert scales.holds, str(scales)
        assert scales.numbers["E"] > 2 * scales.numbers["A"]

    def test_figure3(self, said: Callable[[pa.Table], list[Statement]]) -> None:
        """Content and style are traded against each other along every row.

        With the weights of a large picture, as ``make figures`` has them: to the letter, the content has no
        say at so few pixels, whatever the ratio.
        """
        fields = {"size": 32, "iterations": 40, "reference_size": 512}
        found = said(with_fields(figure3(CONTENT, STYLE), fields))
        assert SLACK == 0.1
        assert [str(statement) for statement in found if not statement.holds] == []
