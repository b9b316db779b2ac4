"""The description of a set: prose, a table for other programs, and what its columns mean."""

import csv
import datetime
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore

from stylebatch.errors import JobError
from stylebatch.layout import Layout
from stylebatch.recipe import FIELDS, Recipe, field_rule
from stylebatch.report.columns import COLUMNS
from stylebatch.report.describe import Description, describe
from stylebatch.report.dictionary import cell
from stylebatch.report.gathering import Values
from stylebatch.report.phrases import listed, reach, shared, spread
from stylebatch.results import RESULT_SCHEMA, encode_part
from stylebatch.synthesis.families import BUNDLED_SHA256
from stylebatch.synthesis.optimizers import StopReason

OUTPUT = "s3://bucket/out"
LAYOUT = Layout(OUTPUT)
FOLDER = f"{OUTPUT}/description"

COMING = frozenset(
    {"layer_residuals", "loss_change", "achieved", "adjusted_clipped_fraction"}
    | {"histogram_sha256", "spectrum_sha256"}
)
"""Columns that tables may have besides those of the schema."""


def ok_row(number: int, recipe: Recipe | None = None, **values: Any) -> dict[str, Any]:
    recipe = recipe or Recipe(size=64, seed=number)
    return {
        "pair_id": f"p{number}",
        "row": number,
        "status": "ok",
        "content": f"s3://bucket/in/c{number % 2}.png",
        "style": ["s3://bucket/in/s.png"],
        "image": LAYOUT.image(0, f"p{number}", ".png"),
        **recipe.to_dict(),
        "recipe_sha256": recipe.fingerprint,
        "width": 64,
        "height": 48,
        "loss": 100.0 + number,
        "content_loss": 60.0,
        "style_loss": 40.0 + number,
        "layer_losses": {"content_conv4_2": 60.0, "style_conv1_1": 40.0 + number},
        "solver_loss": 99.0,
        "loss_curve": [200.0, 99.0],
        "clipped_fraction": 0.01 * number,
        "evaluations": 400 + number,
        "smaller_evaluations": [],
        "stop_reason": "iterations",
        "batch": 1,
        "device": "cpu",
        "content_sha256": f"{number % 2}" * 64,
        "style_sha256": ["f" * 64],
        "weights_sha256": BUNDLED_SHA256,
        "image_sha256": "a" * 64,
        "stylebatch_version": "0.1.0",
        "torch_version": "2.9.0",
        **values,
    }


def failed_row(number: int) -> dict[str, Any]:
    error = {"status": "failed", "error_type": "PictureError", "error": "c.png is empty (0 bytes)"}
    names = {"pair_id": f"p{number}", "row": number, "content": "s3://bucket/in/c.png", "style": []}
    return {**names, **Recipe().to_dict(), **error}


def store_with(
    rows: list[dict[str, Any]], extras: pa.Table | None = None, planned: int | None = None
) -> MemoryStore:
    store = MemoryStore()
    if extras is None:
        extras = pa.table({"row": pa.nulls(len(rows))}).select([])
    store.put(LAYOUT.part(0), encode_part(rows, extras))
    if planned is not None:
        store.put(LAYOUT.job, json.dumps({"rows": planned}).encode())
    return store


def methods(*rows: dict[str, Any], **options: Any) -> str:
    store = store_with([*rows], **options)
    describe(store, OUTPUT)
    return store.objects[f"{FOLDER}/methods.md"].decode()


def table(store: MemoryStore) -> list[dict[str, str]]:
    text = store.objects[f"{FOLDER}/stimuli.tsv"].decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), dialect="excel-tab"))


def with_columns(rows: list[dict[str, Any]], **columns: pa.Array) -> MemoryStore:
    """Rows with columns that the schema may not have yet."""
    part = pq.read_table(io.BytesIO(encode_part(rows, pa.table({"row": pa.nulls(len(rows))}).select([]))))
    for name, column in columns.items():
        if name in part.column_names:
            part = part.drop_columns([name])
        part = part.append_column(name, column)
    file = io.BytesIO()
    pq.write_table(part, file)
    return MemoryStore({LAYOUT.part(0): file.getvalue()})


class TestColumns:
    def test_every_column_of_the_results_is_described(self) -> None:
        assert set(RESULT_SCHEMA.names) <= set(COLUMNS)
        assert set(COLUMNS) <= set(RESULT_SCHEMA.names) | COMING
        assert set(COLUMNS) >= COMING

    @pytest.mark.parametrize("name", COLUMNS)
    def test_a_description_is_a_sentence(self, name: str) -> None:
        entry = COLUMNS[name].entry()
        assert entry["LongName"][0].isupper() or entry["LongName"].startswith("stylebatch")
        assert entry["Description"].endswith(".")
        assert len(entry["Description"]) > 20

    @pytest.mark.parametrize(
        "name", [name for name in FIELDS if field_rule(name).allowed.startswith("one of ")]
    )
    def test_a_choice_has_all_its_levels(self, name: str) -> None:
        options = field_rule(name).allowed.removeprefix("one of ").split(", ")
        assert [*(COLUMNS[name].levels or {})] == options

    def test_every_reason_to_stop_is_explained(self) -> None:
        assert {str(reason) for reason in StopReason} <= set(COLUMNS["stop_reason"].levels or {})

    def test_descriptions_differ(self) -> None:
        assert len({column.description for column in COLUMNS.values()}) == len(COLUMNS)
        assert len({column.long_name for column in COLUMNS.values()}) == len(COLUMNS)


class TestTheTable:
    def test_has_a_row_for_every_pair(self) -> None:
        store = store_with([ok_row(0), failed_row(1)])
        assert describe(store, OUTPUT) == Description(
            (f"{FOLDER}/methods.md", f"{FOLDER}/stimuli.tsv", f"{FOLDER}/stimuli.json"), 1, 1, None
        )
        first, second = table(store)
        assert set(first) == set(RESULT_SCHEMA.names)
        assert (first["pair_id"], first["status"], first["loss"]) == ("p0", "ok", "100.0")
        assert json.loads(first["style"]) == ["s3://bucket/in/s.png"]
        assert json.loads(first["layer_losses"]) == {"content_conv4_2": 60.0, "style_conv1_1": 40.0}
        assert json.loads(first["content_layers"]) == ["conv4_2"]
        assert first["shorter_side"] == "n/a"
        assert (second["status"], second["loss"], second["layer_losses"]) == ("failed", "n/a", "n/a")
        assert second["error"] == "c.png is empty (0 bytes)"

    def test_has_the_experiments_own_columns(self) -> None:
        moment = datetime.datetime(2024, 2, 29, 12, 30)
        extras = pa.table(
            {
                "condition": ['tab\there "quoted"\nbroken', None],
                "trial": pa.array([1, 2], pa.uint8()),
                "when": pa.array([moment, None], pa.timestamp("ms")),
                "is_catch": [True, False],
                "tags": pa.array([["a", "ü"], []], pa.list_(pa.string())),
                "nan": [float("nan"), 1e-9],
            }
        )
        store = store_with([ok_row(0), ok_row(1)], extras)
        describe(store, OUTPUT)
        first, second = table(store)
        own = {name: (first[name], second[name]) for name in extras.column_names}
        assert own == {
            "condition": ('tab\there "quoted"\nbroken', "n/a"),
            "trial": ("1", "2"),
            "when": ("2024-02-29T12:30:00", "n/a"),
            "is_catch": ("true", "false"),
            "tags": ('["a", "ü"]', "[]"),
            "nan": ("n/a", "1e-09"),
        }

    def test_numbers_keep_their_last_digit(self) -> None:
        assert float(cell(0.1 + 0.2)) == 0.1 + 0.2
        assert int(cell(2**63 - 1)) == 2**63 - 1

    def test_parts_come_in_order_and_may_lack_columns(self) -> None:
        store = store_with([ok_row(0)])
        none = pa.table({"row": pa.nulls(1)}).select([])
        older = pq.read_table(io.BytesIO(encode_part([ok_row(1)], none))).drop_columns(["spectrum", "bounds"])
        file = io.BytesIO()
        pq.write_table(older.append_column("note", pa.array(["x"])), file)
        store.put(LAYOUT.part(7), file.getvalue())
        describe(store, OUTPUT)
        first, second = table(store)
        assert (first["pair_id"], second["pair_id"]) == ("p0", "p1")
        assert (first["bounds"], second["bounds"]) == ("soft", "n/a")
        assert (first["note"], second["note"]) == ("n/a", "x")
        assert [*first][-1] == "note"

    def test_folder_can_be_chosen(self) -> None:
        store = store_with([ok_row(0)])
        written = describe(store, OUTPUT, "s3://elsewhere/paper")
        assert written.files[0] == "s3://elsewhere/paper/methods.md"
        assert not [uri for uri in store.objects if uri.startswith(FOLDER)]

    def test_nothing_to_describe(self) -> None:
        with pytest.raises(JobError, match="holds no results"):
            describe(MemoryStore(), OUTPUT)


class TestTheDictionary:
    def test_explains_every_column_of_the_table(self) -> None:
        store = store_with([ok_row(0)], pa.table({"condition": ["left"]}))
        describe(store, OUTPUT)
        entries = json.loads(store.objects[f"{FOLDER}/stimuli.json"])
        assert [*entries] == [*table(store)[0]]
        assert entries["status"]["Levels"]["ok"] == "the stimulus was made and published"
        assert entries["width"] == {
            "LongName": "Width",
            "Description": "Width of the published picture.",
            "Units": "pixels",
        }
        assert entries["condition"] == {
            "LongName": "condition",
            "Description": "The experiment's own column of the manifest, carried through untouched.",
        }


class TestPhrases:
    def values(self, *given: Any) -> Values:
        values = Values()
        for value in given:
            values.add(value)
        return values

    def test_a_constant_is_said_once(self) -> None:
        assert spread(self.values(512, 512)) == "512"
        assert shared(self.values("a", "a"), str) == "a"
        assert reach(self.values(0.25, 0.25)) == "0.25"

    def test_few_are_listed_in_order(self) -> None:
        assert spread(self.values(1e4, 100.0, 1e3, 100.0)) == "100, 1000 and 10000"
        assert listed(["a", "b"]) == "a and b"

    def test_many_are_a_range(self) -> None:
        assert spread(self.values(*range(100))) == "0 to 99 (100 different values)"
        assert reach(self.values(0.123456, 12.3456)) == "0.123 to 12.3"

    def test_names_say_how_many_have_them(self) -> None:
        assert shared(self.values("b", "a", "a"), str) == "a (2 stimuli) and b (1 stimulus)"
        assert shared(self.values(*"abcdefgh"), str) == "8 different ones"


class TestMethods:
    def test_says_what_all_stimuli_share(self) -> None:
        text = methods(*(ok_row(number) for number in range(10)))
        for told in (
            "The set has 10 stimuli.",
            "Gatys, Ecker and Bethge (2015), as implemented in stylebatch 0.1.0 with PyTorch 2.9.0",
            "VGG-19 (Simonyan & Zisserman, 2015)",
            "average pooling",
            "Its weights were the original ones, quantised to 8 bits (`caffe`): family `caffe` (input BGR of",
            f"SHA-256 `{BUNDLED_SHA256}`.",
            "squared difference of responses in conv4_2",
            "in conv1_1, conv2_1, conv3_1, conv4_1, conv5_1, all layers weighted alike",
            "The content weight α was 1, the style weight β 1000 (α/β = 0.001)",
            "to the letter of the paper's equations 1 to 7 (`paper`)",
            "Stimuli are 64 x 48 pixels (width x height), made from 2 content images and 1 style image.",
            "started from uniform white noise, seeded with 0 to 9 (10 different values)",
            "L-BFGS (Liu & Nocedal, 1989) with a history of 100 pairs",
            "at most 500 evaluations of loss and gradient; a penalty kept pixel values within 0 to 255",
            "400 to 409 evaluations were used. Optimisation ended because the evaluations allowed",
            "The loss of the published images was 100 to 109.",
            "Of the optimised pixel values a share of 0 to 0.09 lay outside 0 to 255",
            "published as 8-bit PNG files",
            "transfer function of IEC 61966-2-1",
            "computed on CPUs.",
            "## References",
            "arXiv:1508.06576",
        ):
            assert told in text
        for untold in ("Adam", "JPEG", "failed", "not finished", "Monge", "coarse to fine", "crop"):
            assert untold not in text

    def test_says_what_varies(self) -> None:
        recipes = [
            Recipe(size=64, style_weight=1e2, start="content", format="jpeg", bounds="hard"),
            Recipe(size=64, style_weight=1e4, start="recoloured", scales=3, optimizer="adam", tolerance=1e-3),
            Recipe(size=64, start="s3://bucket/in/start.png", style_layers=["conv3_1"], reference_size=512),
            Recipe(size=64, start="scrambled", seed=11, content_crop=[0, 0, 9, 9], tv_weight=2.0),
        ]
        text = methods(
            ok_row(0, recipes[0], stop_reason="converged", device="cuda", batch=4),
            ok_row(1, recipes[1], width=32, content=None, content_sha256=None),
            ok_row(2, recipes[2], style=[], style_sha256=[], torch_version="2.8.0"),
            ok_row(3, recipes[3], stop_reason="of_its_own", style=["a", "b"], style_sha256=["1", "2"]),
            failed_row(4),
            planned=9,
        )
        for told in (
            "The set has 4 stimuli. 1 pair failed and left none (1 `PictureError`); `error` in the table",
            "**The job is not finished**: 5 of its 9 pairs are described here",
            "PyTorch 2.9.0 (3 stimuli) and 2.8.0 (1 stimulus)",
            "Of these, 1 had a style alone (textures) and 1 had a content alone (content reconstructions).",
            "the style weight β 100, 1000 and 10000",
            "conv1_1, conv2_1, conv3_1, conv4_1, conv5_1 (3 stimuli) and conv3_1 (1 stimulus)",
            "a longer side of 512 pixels",
            "512 pixels (in 1 stimulus)",
            "with the weight 0 and 2",
            "64 x 48 (3) and 32 x 48 (1) pixels",
            "from 2 content images and 3 style images",
            "In 1 stimulus several style images were blended",
            "`content_crop` in the table gives left, top, width and height",
            "the content image (1 stimulus)",
            "Pitié & Kokaram",
            "a given image (`start.png`)",
            "phases of its Fourier spectrum drawn at random",
            "seeded with 11",
            "The number of sizes was 1 and 3: stimuli were made coarse to fine",
            "Adam (Kingma & Ba, 2015) with a step of 4 grey levels",
            "less than the fraction 0.001 of it (in 1 stimulus).",
            "every step was confined to pixel values of 0 to 255 (1 stimulus)",
            "`of_its_own` (1 stimulus)",
            "8-bit JPEG files (chroma not subsampled) (1 stimulus), quality 95",
            "GPUs (CUDA) (1 stimulus), up to 4 images in one batch",
            "Kingma, D. P.",
            "Pitié, F.",
        ):
            assert told in text, told

    def test_says_how_far_it_converged(self) -> None:
        rows = [ok_row(number) for number in range(2)]
        residuals = [[("content_conv4_2", 0.5), ("style_conv1_1", 0.01)], [("content_conv4_2", 0.6)]]
        store = with_columns(
            rows,
            loss_change=pa.array([0.001, 0.02]),
            layer_residuals=pa.array(residuals, pa.map_(pa.string(), pa.float64())),
        )
        describe(store, OUTPUT)
        text = store.objects[f"{FOLDER}/methods.md"].decode()
        assert "Over the last 20 evaluations the loss fell by 0.001 to 0.02 of its last value." in text
        assert "by layer: conv4_2 (content) 0.5 to 0.6 and conv1_1 (style) 0.01." in text

    def test_says_what_was_asked_of_the_appearance_and_what_came_of_it(self) -> None:
        recipe = Recipe(size=64, mean_luminance=0.3, rms_contrast=0.25, spectrum="a/b")
        achieved = [[("mean_luminance", 0.2999), ("rms_contrast", 0.2501)], [("mean_luminance", 0.3001)]]
        store = with_columns(
            [ok_row(0, recipe), ok_row(1, recipe)],
            achieved=pa.array(achieved, pa.map_(pa.string(), pa.float64())),
            adjusted_clipped_fraction=pa.array([0.0, 0.002]),
        )
        describe(store, OUTPUT)
        text = store.objects[f"{FOLDER}/methods.md"].decode()
        assert "were then given the mean luminance of 0.3, the RMS contrast (standard deviation over" in text
        matched = methods(ok_row(0, Recipe(size=64, histogram="content")))
        assert "the histogram of each channel of the content image" in matched
        assert "of `b`, measured in linear light." in text
        assert "Achieved in the published images: mean luminance 0.2999 to 0.3001 and rms contrast" in text
        assert "a share of 0 to 0.002 of the values outside 0 to 255" in text

    def test_what_nobody_asked_for_was_not_achieved(self) -> None:
        asked, free = Recipe(size=64, mean_luminance=0.3), Recipe(size=64)
        achieved = [{"mean_luminance": mean, "rms_contrast": 0.5} for mean in (0.3001, 0.9)]
        text = methods(
            ok_row(0, asked, achieved=achieved[0], adjusted_clipped_fraction=0.1),
            ok_row(1, free, achieved=achieved[1], adjusted_clipped_fraction=0.7),
        )
        assert "given the mean luminance of 0.3 (in 1 stimulus), measured" in text
        assert "Achieved in the published images: mean luminance 0.3001. This left a share of 0.1 of" in text

    def test_stop_rules_are_those_of_the_stimuli_that_have_one(self) -> None:
        recipes = [Recipe(size=64, tolerance=0.01), Recipe(size=64, residual_tolerance=0.2), Recipe(size=64)]
        text = methods(*(ok_row(number, recipe) for number, recipe in enumerate(recipes)))
        assert "lowered the loss by less than the fraction 0.01 of it (in 1 stimulus)." in text
        assert "no layer (see below) was larger than 0.2 (in 1 stimulus)." in text

    def test_of_weights_that_are_a_file(self) -> None:
        own = Recipe(size=64, weights="s3://bucket/vgg.pth", weights_family="caffe-normalised")
        assert "the file `vgg.pth`: family `caffe-normalised` (filters rescaled" in methods(ok_row(0, own))
        unknown = Recipe(size=64, weights="s3://bucket/vgg.pth")
        told = methods(ok_row(0, unknown, weights_sha256="1" * 64))
        assert "weights were the file `vgg.pth`: family not stated; SHA-256" in told

    def test_when_nothing_was_made(self) -> None:
        text = methods(failed_row(0), failed_row(1))
        assert text == (
            "# Methods\n\nThe set has 0 stimuli. 2 pairs failed and left none (2 `PictureError`); `error` in "
            "the table says why.\n"
        )

    @pytest.mark.parametrize("count", [1, 3])
    def test_is_plain_text_without_leftovers(self, count: int) -> None:
        text = methods(*(ok_row(number) for number in range(count)))
        for leftover in ("()", "..", " ,", "{", "}", "  "):
            assert leftover not in text, leftover
        assert not re.search(r"\b(None|nan|inf)\b", text)

    def test_grows_no_larger_with_the_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("stylebatch.report.gathering.MOST_VALUES", 20)
        make: Callable[[int], dict[str, Any]] = ok_row
        text = methods(*(make(number) for number in range(50)))
        assert "seeded with 0 to 49 (more than 20 different values)" in text


def test_a_part_that_is_damaged() -> None:
    store = MemoryStore({LAYOUT.part(0): b"PAR1 and no more"})
    with pytest.raises(JobError, match=r"part-000000\.parquet is damaged \(.*\); put it back from a copy"):
        describe(store, OUTPUT)
