"""Whose parts an output holds, and the table that they become."""

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from inmemory import MemoryStore

from stylebatch.cluster.feature_layout import FeatureLayout
from stylebatch.cluster.feature_output import FeatureOutput, check_size, images_tally
from stylebatch.errors import JobError
from stylebatch.objectstore import ObjectFile
from stylebatch.pair.feature_request import FeatureRequest, FeatureSettings
from stylebatch.pair.feature_table import encode_rows

SETTINGS = FeatureSettings(layers=("conv1_1",), content_layers=("conv1_1",), size=32, project=8)
IMAGES = ("/in/a.png", "/in/b.png", "/in/c.png")
BROKEN = ("/in/b.png", "it is empty")
REQUEST = FeatureRequest(SETTINGS, IMAGES, "/out/f.parquet", "ab" * 32, "caffe", images_per_part=2)
FOLDER = dataclasses.replace(REQUEST, output="/out/features")


def with_settings(request: FeatureRequest, **changes: Any) -> FeatureRequest:
    return dataclasses.replace(request, settings=dataclasses.replace(request.settings, **changes))


def fill(request: FeatureRequest, store: MemoryStore) -> FeatureOutput:
    """The output with all its parts, whose second image is no picture."""
    output = FeatureOutput(request, store)
    output.claim()
    for part in request.parts:
        rows = [
            {"image": image, "error": "it is empty"}
            if "b.png" in image
            else {
                "image": image,
                "content_conv1_1": np.ones(64, np.float32),
                "gram_conv1_1": np.ones(8, np.float32),
            }
            for image in request.part_images(part)
        ]
        store.put(FeatureLayout(request.output).part(part), encode_rows(rows, output.schema))
    return output


def test_parts_hold_the_images_in_order() -> None:
    assert list(REQUEST.parts) == [0, 1]
    assert [REQUEST.part_images(part) for part in REQUEST.parts] == [IMAGES[:2], IMAGES[2:]]


def test_a_file_is_made_of_its_parts_which_go() -> None:
    store = MemoryStore()
    output = fill(REQUEST, store)
    assert set(store.objects) == {
        "/out/f.parquet.parts/_request.json",
        "/out/f.parquet.parts/part-000000.parquet",
        "/out/f.parquet.parts/part-000001.parquet",
    }
    assert not output.is_published()
    assert output.there() == [0, 1]
    tally, missing = output.open()
    assert (tally, missing) == (images_tally(3, [BROKEN], is_new=False), [])
    output.publish(tally)
    output.remove_parts()
    assert set(store.objects) == {"/out/f.parquet"}
    assert output.is_published()
    assert output.open() == (tally, [])
    output.publish(tally)
    table = pq.read_table(ObjectFile(store, "/out/f.parquet"))
    assert tuple(table["image"].to_pylist()) == IMAGES


def test_a_folder_stays_and_says_that_it_is_complete() -> None:
    store = MemoryStore()
    output = fill(FOLDER, store)
    before = dict(store.objects)
    tally, _ = output.open()
    output.publish(tally)
    output.remove_parts()
    counts = store.objects.pop("/out/features/_SUCCESS")
    assert json.loads(counts) == {"rows": 3, "ok": 2, "failed": 1}
    assert store.objects == before
    assert not output.is_published()


def test_a_folder_that_lacks_a_part_does_not_say_so_any_more() -> None:
    store = MemoryStore()
    output = fill(FOLDER, store)
    output.publish(output.open()[0])
    store.delete(FeatureLayout(FOLDER.output).part(0))
    assert output.open() == (images_tally(1, [], is_new=False), [0])
    assert "/out/features/_SUCCESS" not in store.objects


def test_the_same_request_goes_on() -> None:
    store = MemoryStore()
    FeatureOutput(REQUEST, store).claim()
    FeatureOutput(REQUEST, store).claim()
    assert store.calls("put") == ["/out/f.parquet.parts/_request.json"]
    assert FeatureOutput(REQUEST, store).there() == []


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        (with_settings(REQUEST, size=64), ["size is 32 there and 64 here"]),
        (
            with_settings(REQUEST, layers=("conv2_1",), pooling="max"),
            ["layers is ['conv1_1'] there and ['conv2_1'] here", "pooling is 'average' there and 'max' here"],
        ),
        (with_settings(REQUEST, project=None), ["'dimension': 8", "there and None here"]),
        (dataclasses.replace(REQUEST, weights_sha256="cd" * 32), ["weights_sha256 is 'abab"]),
        (dataclasses.replace(REQUEST, images=IMAGES[:2]), ["images is 3 there and 2 here"]),
        (dataclasses.replace(REQUEST, images=IMAGES[::-1]), ["the images are not the same, or not in"]),
        (dataclasses.replace(REQUEST, images_per_part=3), ["images_per_part is 2 there and 3 here"]),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True])
def test_another_request_is_refused(request_: FeatureRequest, lines: list[str], is_finished: bool) -> None:
    store = MemoryStore()
    output = fill(REQUEST, store)
    if is_finished:
        output.publish(output.open()[0])
        output.remove_parts()
    other, before = FeatureOutput(request_, store), dict(store.objects)
    look = other.is_published if is_finished else other.claim
    with pytest.raises(JobError, match=r"^/out/f\.parquet holds other features than these") as raised:
        look()
    for line in lines:
        assert line in str(raised.value)
    assert store.objects == before


def test_where_the_weights_lie_does_not_count() -> None:
    store = MemoryStore()
    FeatureOutput(REQUEST, store).claim()
    FeatureOutput(with_settings(REQUEST, weights="s3://bucket/vgg.pth"), store).claim()


@pytest.mark.parametrize("data", [b"a shopping list", b"[" * 100_000])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    store = MemoryStore({"/out/features/_request.json": data})
    with pytest.raises(JobError, match=r"^/out/features/_request\.json is damaged"):
        FeatureOutput(FOLDER, store).claim()


def test_parts_of_nobody_are_refused() -> None:
    store = MemoryStore()
    fill(FOLDER, store)
    store.delete("/out/features/_request.json")
    with pytest.raises(JobError, match=r"holds /out/features/part-000000\.parquet but no _request\.json"):
        FeatureOutput(FOLDER, store).claim()


def test_a_file_of_somebody_else_stays() -> None:
    store = MemoryStore({"/out/f.parquet": b"a shopping list"})
    with pytest.raises(JobError, match=r"^/out/f\.parquet is there and is no table of features"):
        FeatureOutput(REQUEST, store).is_published()


def test_a_table_too_large_for_one_file_is_refused_with_both_numbers() -> None:
    many = dataclasses.replace(
        with_settings(REQUEST, layers=("conv5_1",), project=None), images=("/in/a.png",) * 5000
    )
    with pytest.raises(JobError, match=r"of 5000 images take 2\.63 GB \(projected\), .* at most 2\.15 GB"):
        check_size(many)
    check_size(dataclasses.replace(many, output="/out/folder"))
