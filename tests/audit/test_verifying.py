"""A true table passes; whatever is tampered with is named."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from audit_outputs import FOLDER, OUTPUT, RECIPE
from finishedjob import Rows, edit_part, finish_job
from inmemory import MemoryStore, picture_bytes
from PIL import Image

from stylebatch.audit.losses import SAME_DEVICE, Tolerance
from stylebatch.audit.overview import stimuli_of
from stylebatch.audit.verdict import Problem, Verdict, VerifyOptions, verdict_lines
from stylebatch.audit.verifying import verify
from stylebatch.errors import JobError, StorageUnavailableError
from stylebatch.job import merge_output
from stylebatch.layout import Layout, image_sha256
from stylebatch.output import unit_rows
from stylebatch.pictures import read_provenance
from stylebatch.pictures.encoding import encode, read_published
from stylebatch.quoting import shown
from stylebatch.recipe import Recipe
from stylebatch.report.describe import describe
from stylebatch.results import open_results

LAYOUT = Layout(OUTPUT)
NOTHING_AGAIN = VerifyOptions(resynthesize=0)
PLAIN, PHOTO, ARRAY = (
    f"{OUTPUT}/images/000000/plain.png",
    f"{OUTPUT}/images/000000/photo.png",
    f"{OUTPUT}/images/000001/array.npy",
)


def verified(
    store: MemoryStore, options: VerifyOptions = NOTHING_AGAIN, output: str = OUTPUT
) -> tuple[Verdict, list[str]]:
    """The verdict, and the problems as they are printed."""
    problems: list[Problem] = []
    verdict = verify(store, output, options, problems.append)
    assert verdict.problems == len(problems)
    return verdict, [str(problem) for problem in problems]


def problems_of(store: MemoryStore, options: VerifyOptions = NOTHING_AGAIN) -> list[str]:
    return verified(store, options)[1]


def row_of(store: MemoryStore, name: str) -> dict[str, Any]:
    results = open_results(store, OUTPUT)
    rows = [row for unit in results.units for row in unit_rows(results, unit)]
    return next(row for row in rows if row["pair_id"] == name)


def changed(name: str, **values: Any) -> Callable[[Rows], None]:
    """A change of one row."""

    def change(rows: Rows) -> None:
        next(row for row in rows if row["pair_id"] == name).update(values)

    return change


class TestATrueTable:
    def test_has_no_problem(self, store: MemoryStore) -> None:
        rows: list[tuple[int, int]] = []
        before = dict(store.objects)
        verdict = verify(
            store,
            OUTPUT,
            VerifyOptions(resynthesize=20),
            lambda problem: pytest.fail(str(problem)),
            lambda done, total: rows.append((done, total)),
        )
        assert (verdict.rows, verdict.ok, verdict.failed, verdict.recomputed) == (7, 6, 1, 6)
        assert (verdict.units, verdict.finished_units, verdict.is_complete) == (3, 3, True)
        assert verdict.largest_difference < 1e-6
        assert rows == [(done, 7) for done in range(1, 8)]
        assert len(verdict.remade) == 6
        assert all(remade.is_same and not remade.reasons for remade in verdict.remade)
        assert store.objects == before
        assert not store.calls("put", "put_if_absent", "put_if_version", "delete")

    def test_is_summed_up(self, store: MemoryStore) -> None:
        verdict, _ = verified(store, VerifyOptions(resynthesize=1))
        lines = [*verdict_lines(verdict)]
        assert lines[0] == "7 of 7 rows in 3 of 3 parts (finished): 6 ok, 1 failed and passed over."
        assert lines[1].startswith("Losses of 6 pictures computed anew; those that agree differ by at most ")
        assert lines[2] == f"Made again: {verdict.remade[0].pair_id}: the same bytes."
        assert lines[3] == "The table is true: no problem."

    def test_the_seed_decides_which_are_made_again(self, store: MemoryStore) -> None:
        chosen = {
            seed: tuple(
                remade.pair_id
                for remade in verified(store, VerifyOptions(resynthesize=2, seed=seed))[0].remade
            )
            for seed in (1, 2)
        }
        assert chosen[1] != chosen[2]
        assert all(len(set(names)) == 2 for names in chosen.values())
        again = verified(store, VerifyOptions(resynthesize=2, seed=1))[0].remade
        assert tuple(remade.pair_id for remade in again) == chosen[1]

    def test_that_was_moved_elsewhere_stays_true(self, store: MemoryStore) -> None:
        moved = MemoryStore(
            {uri.replace(OUTPUT, "s3://archive/2024"): data for uri, data in store.objects.items()}
        )
        verdict, problems = verified(moved, output="s3://archive/2024")
        assert problems == []
        assert verdict.recomputed == 6

    def test_is_read_part_by_part(self, store: MemoryStore) -> None:
        verified(store)
        reads = [uri for uri, _ in store.read if uri.startswith((f"{OUTPUT}/results", f"{OUTPUT}/images"))]
        whole = reads[reads.index(PLAIN) :]  # behind the statuses, which are read first
        last_of_first = max(place for place, uri in enumerate(whole) if uri == PHOTO)
        assert last_of_first < min(place for place, uri in enumerate(whole) if uri == LAYOUT.part(1))

    @pytest.mark.parametrize("format", ["jpeg", "tiff"])
    def test_of_other_formats(self, store: MemoryStore, format: str) -> None:
        columns = {"pair_id": ["photo"], "content": ["tall.png"], "style": ["t.png"], "format": [format]}
        output = f"{FOLDER}/photos"
        finish_job(store, f"{FOLDER}/photos.parquet", output, columns, RECIPE)
        assert verified(store, output=output)[1] == []

    def test_of_a_job_that_is_not_finished(self, store: MemoryStore) -> None:
        store.delete(LAYOUT.success)
        store.delete(LAYOUT.part(2))
        verdict, problems = verified(store)
        assert problems == []
        assert (verdict.ok, verdict.failed, verdict.finished_units, verdict.is_complete) == (6, 0, 2, False)
        assert "6 of 7 rows in 2 of 3 parts (not finished)" in next(iter(verdict_lines(verdict)))


class TestPictures:
    def test_one_pixel_changed(self, store: MemoryStore) -> None:
        data = store.objects[PLAIN]
        pixels = read_published(data, PLAIN)
        pixels[0, 0, 0] += 1 if pixels[0, 0, 0] < 255 else -1
        store.put(PLAIN, encode(pixels, "png", 95, read_provenance(data, PLAIN)))
        (problem,) = problems_of(store)
        assert problem.startswith("plain: its image is another file: its SHA-256 is ")
        assert row_of(store, "plain")["image_sha256"][:16] in problem

    @pytest.mark.parametrize("image", [PLAIN, PHOTO, ARRAY])
    def test_file_replaced(self, store: MemoryStore, image: str) -> None:
        store.put(image, picture_bytes(48, 36, 9))
        (problem,) = problems_of(store)
        assert ": its image is another file: " in problem

    def test_file_and_hash_replaced_are_betrayed_by_the_losses(self, store: MemoryStore) -> None:
        """An array has no provenance: nothing but its losses says that it is not the one."""
        pixels = np.load(io.BytesIO(store.objects[ARRAY]))
        pixels[4:8, 4:8] = 255 - pixels[4:8, 4:8]
        file = io.BytesIO()
        np.save(file, pixels)
        store.put(ARRAY, file.getvalue())
        edit_part(store, OUTPUT, 1, changed("array", image_sha256=image_sha256(file.getvalue())))
        problems = problems_of(store)
        assert problems
        assert all(problem.startswith("array: ") for problem in problems)
        assert any("loss is" in problem and "as recomputed" in problem for problem in problems)

    def test_stripped_of_its_provenance(self, store: MemoryStore) -> None:
        file = io.BytesIO()
        Image.open(io.BytesIO(store.objects[PLAIN])).save(file, "PNG")
        store.put(PLAIN, file.getvalue())
        edit_part(store, OUTPUT, 0, changed("plain", image_sha256=image_sha256(file.getvalue())))
        (problem,) = problems_of(store)
        assert problem.startswith("plain: its image carries no provenance")

    def test_of_another_size(self, store: MemoryStore) -> None:
        file = io.BytesIO()
        np.save(file, np.zeros((20, 48, 3), np.float32))
        store.put(ARRAY, file.getvalue())
        edit_part(store, OUTPUT, 1, changed("array", image_sha256=image_sha256(file.getvalue())))
        assert problems_of(store) == ["array: its image is 48 x 20 pixels, and 48 x 36 in the table"]

    def test_missing(self, store: MemoryStore) -> None:
        store.delete(PLAIN)
        assert problems_of(store) == [f"plain: its image cannot be read: {PLAIN}: nothing is there"]

    def test_without_a_row(self, store: MemoryStore) -> None:
        store.put(f"{OUTPUT}/images/000001/stray.png", b"x")
        assert problems_of(store) == ["images/000001/stray.png: no row of the table has this picture"]


class TestLosses:
    @pytest.mark.parametrize("name", ["loss", "content_loss", "style_loss"])
    @pytest.mark.parametrize("factor", [1.01, 0.99])
    def test_one_per_cent_is_noticed(self, store: MemoryStore, name: str, factor: float) -> None:
        told = row_of(store, "array")[name]
        edit_part(store, OUTPUT, 1, changed("array", **{name: told * factor}))
        (problem,) = problems_of(store)
        assert problem.startswith(f"array: {name} is {told * factor:.7g} in the table and ")
        assert problem.endswith(" as recomputed (0.01 of it)")

    @pytest.mark.parametrize(
        "key", ["content_conv4_2", "style_conv1_1", "style_conv2_1", "style_conv3_1", "style_conv5_1"]
    )
    def test_one_per_cent_of_a_layer_is_noticed(self, store: MemoryStore, key: str) -> None:
        losses = row_of(store, "array")["layer_losses"]
        assert losses[key] > 0
        changes = {**losses, key: 1.01 * losses[key]}
        edit_part(store, OUTPUT, 1, changed("array", layer_losses=changes))
        (problem,) = problems_of(store)
        assert problem.startswith(f"array: {key} is ")

    def test_in_a_picture_with_provenance_both_witnesses_speak(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 0, changed("plain", loss=row_of(store, "plain")["loss"] * 1.01))
        inside, recomputed = problems_of(store)
        assert inside.startswith("plain: loss is ")
        assert inside.endswith(" inside the file")
        assert "as recomputed" in recomputed

    def test_rounding_is_no_lie(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, changed("array", loss=row_of(store, "array")["loss"] * 1.0003))
        assert problems_of(store) == []

    def test_one_that_is_left_out_is_noticed(self, store: MemoryStore) -> None:
        losses = row_of(store, "array")["layer_losses"]
        del losses["style_conv3_1"]
        edit_part(store, OUTPUT, 1, changed("array", layer_losses=losses, loss=None))
        first, second = problems_of(store)
        assert first.startswith("array: loss is missing in the table and ")
        assert second.startswith("array: style_conv3_1 is missing in the table and ")

    def test_a_small_loss_is_as_uncertain_as_its_residual(self) -> None:
        tolerance = Tolerance(relative=1e-3, residual=1e-5)
        assert tolerance.uncertainty(1e6, 1e6) == pytest.approx(1e3)
        residual = 1e-4  # of a loss that is 1e-8 of its scale
        off = tolerance.uncertainty(residual**2 * 1e6, 1e6)
        assert math.sqrt((residual**2 * 1e6 + off) / 1e6) == pytest.approx(residual + 1e-5)

    def test_one_per_cent_is_more_than_rounding_above_a_residual_of_two_thousandths(self) -> None:
        for residual in (0.002, 0.01, 0.1, 1.0):
            assert SAME_DEVICE.uncertainty(residual**2, 1.0) < 0.01 * residual**2 * 1.01


class TestFacts:
    def test_a_recipe_that_was_changed(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, changed("array", seed=5))
        (problem,) = problems_of(store)
        assert problem.startswith("array: its recipe is not that of its recipe_sha256")

    def test_a_recipe_that_is_none(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, changed("array", style_weight=-1.0))
        (problem,) = problems_of(store)
        assert problem.startswith("array: it cannot be checked any further: recipe: style_weight is -1.0")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("evaluations", 9), ("solver_loss", 1.0), ("stop_reason", "converged"), ("clipped_fraction", 0.5)],
    )
    def test_what_the_file_says_otherwise(self, store: MemoryStore, name: str, value: Any) -> None:
        edit_part(store, OUTPUT, 0, changed("plain", **{name: value}))
        (problem,) = problems_of(store)
        assert problem.startswith(f"plain: {name} is ")
        assert problem.endswith(" inside the file")

    def test_other_weights(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, changed("array", weights_sha256="0" * 64))
        (problem,) = problems_of(store)
        assert "array: the weights caffe are another file: their SHA-256 is c34748d2a8b1ad0a..." in problem

    @pytest.mark.parametrize(
        ("source", "kinds"),
        [
            ("d", {"dotted.name": "content", "array": "content"}),
            ("t", {"photo": "style", "array": "style", "texture": "style"}),
        ],
    )
    def test_a_source_that_is_another_file(
        self, store: MemoryStore, source: str, kinds: dict[str, str]
    ) -> None:
        store.put(f"{FOLDER}/{source}.png", picture_bytes(64, 48, 77))
        problems = problems_of(store)
        assert [problem.partition(" is another file: ")[0] for problem in problems] == [
            f"{name}: the {kind} image {FOLDER}/{source}.png" for name, kind in kinds.items()
        ]

    def test_sources_that_are_missing(self, store: MemoryStore) -> None:
        store.delete(f"{FOLDER}/c.png")  # of plain and content-only the content, of array the start
        gone = f"image cannot be read: {FOLDER}/c.png: nothing is there"
        assert problems_of(store) == [
            f"plain: the content {gone}",
            f"array: the start {gone}",
            f"content-only: the content {gone}",
        ]

    def test_a_source_is_read_once(self, store: MemoryStore) -> None:
        verified(store)
        reads = [uri for uri, _ in store.read if uri == f"{FOLDER}/s.png"]
        assert len(reads) <= 2  # to be hashed, and to be decoded

    def test_a_storage_that_is_away_is_no_lie(self, store: MemoryStore) -> None:
        store.errors["get_range", PLAIN] = StorageUnavailableError("the storage is away")
        with pytest.raises(StorageUnavailableError):
            verified(store)


class TestRows:
    def test_one_that_is_dropped(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, lambda rows: rows.pop(1))
        assert problems_of(store) == [
            "results/part-000001.parquet: it should hold rows 3 to 5 in order: rows 4 are missing",
            "images/000001/texture.png: no row of the table has this picture",
            "_SUCCESS: rows is 7 there and 6 in the parts",
            "_SUCCESS: ok is 6 there and 5 in the parts",
        ]

    def test_one_that_is_there_twice(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 0, lambda rows: rows.__setitem__(1, dict(rows[0])))
        problems = problems_of(store)
        assert problems[:2] == [
            "results/part-000000.parquet: it should hold rows 0 to 2 in order: rows 1 are missing",
            "results/part-000000.parquet: pair ids are there more than once: plain",
        ]

    def test_a_failure_that_is_passed_off_as_something_else(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 0, changed("plain", status="failed"))
        edit_part(store, OUTPUT, 2, changed("gone", status="fine"))
        assert problems_of(store) == [
            "images/000000/plain.png: no row of the table has this picture",
            "results/part-000002.parquet: the status of gone is 'fine'; it must be one of ok, failed",
            "_SUCCESS: ok is 6 there and 5 in the parts",
            "_SUCCESS: failed is 1 there and 2 in the parts",
        ]

    def test_a_part_that_is_gone_from_a_finished_job(self, store: MemoryStore) -> None:
        store.delete(LAYOUT.part(1))
        problems = problems_of(store)
        assert problems[0] == "_SUCCESS: it is there, but parts of units are missing: 1"

    def test_a_part_that_is_damaged(self, store: MemoryStore) -> None:
        store.put(LAYOUT.part(1), store.objects[LAYOUT.part(1)][:-40])
        problems = problems_of(store)
        assert problems[0].startswith("results/part-000001.parquet: ")
        assert "is damaged" in problems[0]

    def test_a_table_that_lacks_columns_is_read_as_far_as_it_goes(self, store: MemoryStore) -> None:
        """As one that an older version wrote: fields that it does not know have their defaults."""
        for unit in range(3):
            table = pq.read_table(io.BytesIO(store.objects[LAYOUT.part(unit)]))
            file = io.BytesIO()
            pq.write_table(table.drop_columns(["spectrum", "residual_tolerance"]), file)
            store.put(LAYOUT.part(unit), file.getvalue())
        verdict, problems = verified(store)
        assert problems == []
        assert verdict.recomputed == 6

    def test_a_folder_that_is_no_output(self) -> None:
        with pytest.raises(JobError, match=r"there is no s3://bucket/x/job\.json; is s3://bucket/x the"):
            verified(MemoryStore(), output="s3://bucket/x")

    def test_an_output_without_results(self, store: MemoryStore) -> None:
        for unit in range(3):
            store.delete(LAYOUT.part(unit))
        with pytest.raises(JobError, match="holds no results"):
            verified(store)


class TestMakingAgain:
    def test_pairs_of_a_batch_come_out_alike_not_the_same(self, store: MemoryStore) -> None:
        columns = {
            "pair_id": ["one", "two", "three"],
            "content": ["c.png", "d.png", "c.png"],
            "style": ["s.png", "s.png", "t.png"],
        }
        recipe = Recipe(size=48, iterations=12, start="content")
        output = f"{FOLDER}/batched"
        finish_job(store, f"{FOLDER}/three.parquet", output, columns, recipe, batch=3)
        verdict, problems = verified(store, VerifyOptions(resynthesize=3), output)
        assert problems == []
        assert verdict.recomputed == 3
        assert [remade.reasons for remade in verdict.remade] == [("a batch of 3",)] * 3
        assert max(remade.loss_difference for remade in verdict.remade) < 0.1
        different = [remade for remade in verdict.remade if not remade.is_same]
        assert different
        line = next(line for line in verdict_lines(verdict) if different[0].pair_id in line)
        assert "other bytes (made with a batch of 3), the loss within " in line

    def test_a_picture_that_nobody_made_so(self, store: MemoryStore) -> None:
        """Its start image, passed off as what twenty evaluations came to."""
        columns = {"pair_id": ["lazy"], "content": ["c.png"], "style": ["s.png"], "format": ["npy"]}
        output = f"{FOLDER}/lazy"
        start = Recipe(size=48, iterations=1, start="content")
        finish_job(store, f"{FOLDER}/one.parquet", output, columns, start)
        recipe = Recipe(size=48, iterations=20, start="content", format="npy")
        edit_part(store, output, 0, changed("lazy", iterations=20, recipe_sha256=recipe.fingerprint))
        assert verified(store, output=output)[1] == []
        (problem,) = verified(store, VerifyOptions(resynthesize=1), output)[1]
        assert problem.startswith("lazy: made again, its loss is ")
        assert problem.endswith("which is more than 0.1")

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("evaluations", 7),
            ("stop_reason", "converged"),
            ("loss_curve", [3.0, 2.0, 1.0]),
            ("clipped_fraction", 0.5),
        ],
    )
    def test_a_way_that_it_did_not_take(self, store: MemoryStore, column: str, value: object) -> None:
        """Inside an array file nothing tells how it came about."""
        edit_part(store, OUTPUT, 1, changed("array", **{column: value}))
        assert problems_of(store) == []
        (problem,) = problems_of(store, VerifyOptions(resynthesize=6))
        assert problem.startswith(f"array: made again to the same bytes, its {column} is ")
        assert problem.endswith(f" and in the table {shown(value)}")

    def test_a_way_that_rounding_may_have_changed(self, store: MemoryStore) -> None:
        curve = [loss * 1.001 for loss in row_of(store, "array")["loss_curve"]]
        edit_part(store, OUTPUT, 1, changed("array", loss_curve=curve))
        assert problems_of(store, VerifyOptions(resynthesize=6)) == []
        edit_part(store, OUTPUT, 1, changed("array", evaluations=7, torch_version="1.0"))
        assert problems_of(store, VerifyOptions(resynthesize=6)) == []

    def test_other_versions_are_said(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, lambda rows: [row.update(torch_version="1.0") for row in rows])
        verdict, _ = verified(store, VerifyOptions(resynthesize=6))
        by_name = {remade.pair_id: remade for remade in verdict.remade}
        assert by_name["array"].reasons == ("torch_version 1.0",)
        assert by_name["plain"].reasons == ()


class TestAMergedTable:
    def test_is_as_true_as_its_parts(self, store: MemoryStore) -> None:
        before = verified(store)[0]
        merge_output(store, OUTPUT)
        assert not [uri for uri in store.objects if uri == LAYOUT.part(0)]
        verdict, problems = verified(store)
        assert problems == []
        assert verdict == before

    def test_that_was_changed_is_reported_once_for_each_file(self, store: MemoryStore) -> None:
        merge_output(store, OUTPUT)
        (uri,) = [uri for uri in store.objects if "/results/part-" in uri]
        data = bytearray(store.objects[uri])
        data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
        store.put(uri, bytes(data))
        problems = [problem for problem in problems_of(store) if problem.startswith("results/")]
        changed = "it was changed: its SHA-256 is not the one in _generation.json"
        assert [problem.endswith(changed) for problem in problems].count(True) == 1
        assert len(problems) <= 2

    def test_that_is_not_whole_is_refused(self, store: MemoryStore) -> None:
        merge_output(store, OUTPUT)
        (uri,) = [uri for uri in store.objects if "/results/part-" in uri]
        store.put(uri, store.objects[uri][:-1])
        with pytest.raises(JobError, match=r"has \d+ bytes instead of \d+; it holds the results of 7 rows"):
            problems_of(store)

    def test_can_be_described(self, store: MemoryStore) -> None:
        describe(store, OUTPUT, f"{FOLDER}/before")
        merge_output(store, OUTPUT)
        describe(store, OUTPUT, f"{FOLDER}/after")
        for name in ("methods.md", "stimuli.tsv", "stimuli.json"):
            assert store.objects[f"{FOLDER}/after/{name}"] == store.objects[f"{FOLDER}/before/{name}"]

    def test_has_the_same_stimuli(self, store: MemoryStore) -> None:
        before = [(unit, row["pair_id"]) for unit, row in stimuli_of(store, OUTPUT)]
        merge_output(store, OUTPUT)
        assert [(unit, row["pair_id"]) for unit, row in stimuli_of(store, OUTPUT)] == before
