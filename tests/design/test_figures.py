"""The manifests of the paper's figures: what each panel is made from, and how."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from figurejobs import opened, pairs_of

from stylebatch.design import figure1, figure2, figure3, ready_figures, with_fields
from stylebatch.errors import JobError, ManifestError, RecipeError
from stylebatch.manifest import open_manifest
from stylebatch.recipe import PAPER_STYLE_LAYERS, Recipe
from stylebatch.storage import LocalStore

CONTENT, STYLE, OTHER = "/in/house.png", "/in/night.jpg", "s3://bucket/scream.png"
MANIFESTS = Path(__file__).parents[2] / "manifests"
STYLE_SETS = [PAPER_STYLE_LAYERS[:count] for count in range(1, 6)]

ALL_DESIGNS = pytest.mark.parametrize(
    "table",
    [figure1(CONTENT, STYLE), figure2(CONTENT, [STYLE, OTHER], [1e-3, 1e-4]), figure3(CONTENT, STYLE)],
    ids=["figure1", "figure2", "figure3"],
)


class TestFigure1:
    def test_style_reconstructions_have_growing_sets_of_layers_and_no_content(self) -> None:
        pairs = pairs_of(figure1(CONTENT, STYLE))[:5]
        assert [pair.pair_id for pair in pairs] == [f"figure1-style-{label}" for label in "ABCDE"]
        assert [(pair.content, pair.styles) for pair in pairs] == [(None, (STYLE,))] * 5
        assert [pair.recipe.style_layers for pair in pairs] == STYLE_SETS
        assert [pair.recipe.style_layer_weights for pair in pairs] == [(1 / n,) * n for n in range(1, 6)]

    def test_content_reconstructions_have_one_layer_and_no_style(self) -> None:
        pairs = pairs_of(figure1(CONTENT, STYLE))[5:]
        assert [pair.pair_id for pair in pairs] == [f"figure1-content-{label}" for label in "abcde"]
        assert [(pair.content, pair.styles) for pair in pairs] == [(CONTENT, ())] * 5
        assert [pair.recipe.content_layers for pair in pairs] == [(layer,) for layer in PAPER_STYLE_LAYERS]

    def test_losses_are_those_of_the_equations(self) -> None:
        for pair in pairs_of(figure1(CONTENT, STYLE)):
            assert (pair.recipe.content_weight, pair.recipe.style_weight) == (1.0, 1.0)

    def test_style_stands_above_content(self) -> None:
        table = figure1(CONTENT, STYLE)
        assert table["panel"].to_pylist() == [*"ABCDEabcde"]
        assert table["panel_row"].to_pylist() == [0] * 5 + [1] * 5
        assert table["panel_column"].to_pylist() == [0, 1, 2, 3, 4] * 2
        assert table["ratio"].to_pylist() == [None] * 10
        assert table["title"].to_pylist()[::5] == ["Texture of night from conv1_1", "house from conv1_1"]


class TestFigure2:
    def test_every_style_with_the_papers_layers(self) -> None:
        pairs = pairs_of(figure2(CONTENT, [STYLE, OTHER]))
        assert [pair.pair_id for pair in pairs] == ["figure2-B", "figure2-C"]
        assert [(pair.content, pair.styles) for pair in pairs] == [(CONTENT, (STYLE,)), (CONTENT, (OTHER,))]
        for pair in pairs:
            assert pair.recipe.content_layers == ("conv4_2",)
            assert pair.recipe.style_layers == PAPER_STYLE_LAYERS
            assert pair.recipe.style_layer_weights == (0.2,) * 5

    @pytest.mark.parametrize(
        ("ratios", "weights"), [((), [1e3, 1e3]), ([1e-4], [1e4, 1e4]), ([1e-3, 1e-5], [1e3, 1e5])]
    )
    def test_a_ratio_for_all_or_for_each(self, ratios: Any, weights: list[float]) -> None:
        table = figure2(CONTENT, [STYLE, OTHER], *([ratios] if ratios else []))
        recipes = [pair.recipe for pair in pairs_of(table)]
        assert [recipe.style_weight for recipe in recipes] == weights
        assert [recipe.content_weight for recipe in recipes] == [1.0, 1.0]
        assert table["ratio"].to_pylist() == [pytest.approx(1 / weight) for weight in weights]

    def test_the_first_place_is_the_photographs(self) -> None:
        table = figure2(CONTENT, [STYLE] * 5)
        assert table["panel"].to_pylist() == [*"BCDEF"]
        places = zip(table["panel_row"].to_pylist(), table["panel_column"].to_pylist(), strict=True)
        assert [*places] == [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]

    @pytest.mark.parametrize(
        ("styles", "ratios", "message"),
        [
            (0, [1e-3], "1 to 25 styles, and 0 are given"),
            (26, [1e-3], "1 to 25 styles, and 26 are given; make several figures"),
            (3, [1e-3, 1e-4], "2 ratios are given for 3 styles; give one for all, or one for each"),
            (2, [], "0 ratios are given for 2 styles"),
        ],
    )
    def test_numbers_that_do_not_fit(self, styles: int, ratios: list[float], message: str) -> None:
        with pytest.raises(JobError, match=message):
            figure2(CONTENT, [STYLE] * styles, ratios)

    def test_as_many_styles_as_there_are_letters(self) -> None:
        assert len(pairs_of(figure2(CONTENT, [STYLE] * 25))) == 25

    @pytest.mark.parametrize("ratio", [0.0, -1e-3, float("nan"), float("inf"), 1e-300])
    def test_ratios_that_are_none(self, ratio: float) -> None:
        with pytest.raises(RecipeError, match=r"ratio is|style_weight is"):
            figure2(CONTENT, [STYLE], [ratio])


class TestFigure3:
    def test_every_set_of_layers_with_every_ratio(self) -> None:
        table = figure3(CONTENT, STYLE)
        pairs = pairs_of(table)
        assert [(pair.content, pair.styles) for pair in pairs] == [(CONTENT, (STYLE,))] * 20
        recipes = [pair.recipe for pair in pairs]
        assert [recipe.style_layers for recipe in recipes[::4]] == STYLE_SETS
        assert [recipe.style_layer_weights for recipe in recipes[::4]] == [(1 / n,) * n for n in range(1, 6)]
        for row in range(0, 20, 4):
            assert [recipe.style_weight for recipe in recipes[row : row + 4]] == [1e5, 1e4, 1e3, 1e2]
            assert len({recipe.style_layers for recipe in recipes[row : row + 4]}) == 1
        assert {(recipe.content_layers, recipe.content_weight) for recipe in recipes} == {(("conv4_2",), 1.0)}

    def test_names_and_places(self) -> None:
        table = figure3(CONTENT, STYLE)
        assert table["pair_id"].to_pylist()[4:8] == [f"figure3-B-1e-{digit}" for digit in (5, 4, 3, 2)]
        assert table["panel"].to_pylist() == [*"AAAABBBBCCCCDDDDEEEE"]
        assert table["panel_row"].to_pylist() == sorted([*range(5)] * 4)
        assert table["panel_column"].to_pylist() == [0, 1, 2, 3] * 5
        assert table["ratio"].to_pylist() == [1e-5, 1e-4, 1e-3, 1e-2] * 5
        assert table["title"][7].as_py() == "house in the style of night, conv1_1 to conv2_1, alpha/beta 1e-2"


class TestEveryFigure:
    @ALL_DESIGNS
    def test_says_which_figure_and_how_many_panels(self, table: pa.Table) -> None:
        assert len(set(table["figure"].to_pylist())) == 1
        assert table["figure"][0].as_py() == table["pair_id"][0].as_py().partition("-")[0]
        assert set(table["panels"].to_pylist()) == {table.num_rows}

    @ALL_DESIGNS
    def test_what_defines_it_is_no_matter_of_the_job(self, table: pa.Table) -> None:
        other = Recipe.preset("gatys-code", content_layers=["conv1_2"], style_layers=["conv1_2"], seed=7)
        for own, pair in zip(pairs_of(table), pairs_of(table, other), strict=True):
            recipe = pair.recipe
            assert (recipe.convention, recipe.pooling, recipe.start, recipe.seed) == (
                *("paper", "average", "noise"),
                0,
            )
            assert (recipe.content_weight, recipe.style_weight) == (
                own.recipe.content_weight,
                own.recipe.style_weight,
            )
            if pair.content:
                assert recipe.content_layers == own.recipe.content_layers
            if pair.styles:
                assert recipe.style_layers == own.recipe.style_layers
            assert recipe.shorter_side == 512  # and the size is

    @ALL_DESIGNS
    def test_columns_have_their_types_even_where_all_is_null(self, table: pa.Table) -> None:
        types = {name: str(table.schema.field(name).type) for name in table.column_names}
        assert types["ratio"] == "double"
        assert types["style"] == "list<element: string>" or types["style"] == "list<item: string>"
        assert {types[name] for name in ("panels", "panel_row", "panel_column", "seed")} == {"int64"}
        assert {types[name] for name in ("figure", "panel", "title", "pair_id", "content")} == {"string"}


class TestWithFields:
    def test_what_the_figure_leaves_open(self) -> None:
        fields = {"size": 96, "tolerance": 1e-3, "bounds": "clip", "content_crop": [0, 0, 50, 40]}
        for pair in pairs_of(with_fields(figure1(CONTENT, STYLE), fields | {"style_size": None})):
            assert (pair.recipe.size, pair.recipe.tolerance, pair.recipe.bounds) == (96, 1e-3, "clip")
            assert (pair.recipe.content_crop, pair.recipe.style_size) == ((0, 0, 50, 40), None)

    def test_nothing_changes_nothing(self) -> None:
        assert with_fields(figure3(CONTENT, STYLE), {}).equals(figure3(CONTENT, STYLE))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"style_layers": ["conv1_1"]}, "style_layers: the figure itself decides this; leave it out"),
            ({"start": "content", "seed": 3}, "start, seed: the figure itself decides"),
            ({"siez": 96}, r"there is no field 'siez' \(did you mean size\?\)"),
            ({"size": -1}, "size is -1; it must be"),
        ],
    )
    def test_refusals(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            with_fields(figure3(CONTENT, STYLE), fields)


class TestReadyManifests:
    """``manifests/figure1.parquet`` and so on, which are committed."""

    @pytest.mark.parametrize("name", ["figure1", "figure2", "figure3"])
    def test_committed_manifest_is_the_ready_figure(self, name: str) -> None:
        """Made by ``write_manifest(LocalStore(), ".../manifests/NAME.parquet", ready)``."""
        ready = ready_figures("../demo-output/sources")[name]
        assert pq.read_table(MANIFESTS / f"{name}.parquet").equals(ready)
        opened(ready)

    @pytest.mark.parametrize("name", ["figure1", "figure2", "figure3"])
    def test_it_means_the_demos_photographs(self, name: str) -> None:
        folder = f"{MANIFESTS.parent}/demo-output/sources"
        manifest = open_manifest(LocalStore(), f"{MANIFESTS}/{name}.parquet")
        demo = open_manifest(LocalStore(), f"{MANIFESTS}/demo.parquet")
        sources = {uri for pair in demo.pairs(Recipe()) for uri in (pair.content, *pair.styles)}
        assert all(uri.startswith(folder) for uri in sources)
        used = {uri for pair in manifest.pairs(Recipe()) for uri in (pair.content, *pair.styles) if uri}
        assert used <= sources

    def test_ids_that_differ_by_letter_case_alone_would_be_refused(self) -> None:
        """Why panels a and A of figure 1 have longer names than their labels."""
        table = figure1(CONTENT, STYLE)
        ids = pa.array([f"figure1-{label}" for label in table["panel"].to_pylist()])
        with pytest.raises(ManifestError, match="differ only by letter case"):
            opened(table.set_column(0, "pair_id", ids))
