"""Foils: rows of their own, once for each image as it looks, that publish their start."""

from typing import Any

import pytest
from inmemory import picture_bytes
from studies import FOLDER, design, factors, make, study

from stylebatch.design.crops import overlap
from stylebatch.design.design_file import parse_design
from stylebatch.design.stimuli import StimulusSet, make_stimuli
from stylebatch.design.stimulus import Stimulus
from stylebatch.errors import DesignError

ALL = [{"kind": "unmodified"}, {"kind": "scrambled"}, {"kind": "noise"}]
CROP = {"width": 20, "height": 20}


def foils(found: StimulusSet) -> list[Stimulus]:
    return [row for row in found.stimuli if row.foil is not None]


def made(**changes: Any) -> list[Stimulus]:
    return foils(make(**changes))


def test_each_kind_is_a_start_that_is_published() -> None:
    rows = made(foils=[*ALL, {"kind": "crop", **CROP}], recipe={"size": 64, "scales": 3, "start": "content"})
    assert [(row.foil, row.foil_of, row.fields["start"]) for row in rows] == [
        ("unmodified", "cat", "content"),
        ("unmodified", "boat", "content"),
        ("scrambled", "cat", "scrambled"),
        ("scrambled", "boat", "scrambled"),
        ("noise", "cat", "noise"),
        ("noise", "boat", "noise"),
        ("crop", "cat", "content"),
        ("crop", "boat", "content"),
    ]
    for row in rows:
        assert (row.fields["iterations"], row.fields["scales"], row.fields["size"]) == (0, 1, 64)
        assert row.content == f"{FOLDER}/{row.foil_of}.png"
        assert row.styles == ()
        assert row.levels == {"content": row.foil_of, "style": None}
    assert rows[0].pair_id == "foil_unmodified_content_cat_r1"


def test_they_are_made_once_for_each_size_and_not_for_what_they_do_not_show() -> None:
    more = factors(size=[64, 32], ratio=[1e-3, 1e-4])
    rows = made(foils=[{"kind": "noise"}], factors=more, replicates=3)
    assert [row.cell for row in rows] == [
        "foil_noise_content_cat_64",
        "foil_noise_content_cat_32",
        "foil_noise_content_boat_64",
        "foil_noise_content_boat_32",
    ]
    assert [row.fields["size"] for row in rows] == [64, 32, 64, 32]
    assert rows[1].levels == {"content": "cat", "style": None, "size": "32", "ratio": None}


def test_replicates_have_seeds_and_crops_of_their_own() -> None:
    rows = made(
        factors={"content": ["cat.png"]},
        foils=[
            {"kind": "scrambled", "replicates": 3},
            {"kind": "crop", "width": 9, "height": 9, "replicates": 3},
        ],
        crop=CROP,
    )
    assert [row.replicate for row in rows] == [1, 2, 3, 1, 2, 3]
    assert len({row.fields["seed"] for row in rows}) == 6
    boxes = [row.fields["content_crop"] for row in rows[3:]]
    used = rows[0].fields["content_crop"]
    assert not any(overlap(a, b) for i, a in enumerate([used, *boxes]) for b in boxes[i:] if a != b)
    assert len({*boxes, used}) == 4


def test_all_kinds_but_another_crop_are_of_the_crop_that_the_cells_use() -> None:
    found = make(crop=CROP, foils=[*ALL, {"kind": "crop"}])
    used = {row.levels["content"]: row.fields["content_crop"] for row in found.stimuli if row.foil is None}
    for row in foils(found):
        box = row.fields["content_crop"]
        assert box[2:] == (20, 20)
        if row.foil == "crop":
            assert not overlap(box, used[row.foil_of])
        else:
            assert box == used[row.foil_of]
    assert found.notes == ()


def test_crops_that_cannot_keep_apart_are_said() -> None:
    tight = {"width": 40, "height": 30}
    found = make(crop=tight, foils=[{"kind": "crop"}])
    assert found.notes == (
        "foil crop of content: the crops of cat, boat overlap what the cells use, or one another",
    )
    whole = make(foils=[{"kind": "crop", **CROP}])
    assert "overlap what the cells use" in whole.notes[0]
    given = make(crop={**CROP, "at": [0, 0]}, foils=[{"kind": "crop", "at": [19, 0]}])
    assert "overlap what the cells use" in given.notes[0]
    apart = make(crop={**CROP, "at": [0, 0]}, foils=[{"kind": "crop", "at": [20, 0]}])
    assert apart.notes == ()


def test_another_crop_is_made_once_whatever_the_cells_use() -> None:
    halves = {"left": [0, 0, 30, 40], "right": [30, 0, 20, 40]}
    other = {"kind": "crop", "width": 10, "height": 40}
    found = make(
        factors={"content": ["cat.png"], "content_crop": halves}, foils=[other, {"kind": "unmodified"}]
    )
    crop, left, right = foils(found)
    assert (crop.cell, crop.fields["content_crop"]) == ("foil_crop_content_cat", (50, 0, 10, 40))
    assert (left.cell, right.cell) == (
        "foil_unmodified_content_cat_left",
        "foil_unmodified_content_cat_right",
    )


def test_too_many_are_refused_before_they_are_made() -> None:
    many = [{"kind": "noise", "label": f"n{i}", "replicates": 100} for i in range(20)]
    with pytest.raises(DesignError, match="the set would have 400,000 rows or more; at most 200,000"):
        make(factors=factors(size=[16 + i for i in range(100)]), foils=many, replicates=1)


class TestOfAStyle:
    def test_the_style_is_content_and_style(self) -> None:
        rows = made(foils=[{"kind": "unmodified", "of": "style"}])
        assert [(row.content, row.styles) for row in rows] == [
            (f"{FOLDER}/{name}.png", (f"{FOLDER}/{name}.png",)) for name in ("wave", "scream")
        ]
        assert rows[0].levels == {"content": None, "style": "wave"}
        assert rows[0].cell == "foil_unmodified_style_wave"

    def test_its_crop_is_the_style_s(self) -> None:
        crop = {"of": "style", "width": 10, "height": 10}
        rows = made(foils=[{"kind": "scrambled", "of": "style"}, {"kind": "crop", "of": "style"}], crop=crop)
        for row in rows:
            apart = row.foil == "crop"
            assert overlap(row.fields["content_crop"], row.fields["style_crop"]) != apart
            assert (row.fields["content_crop"] == row.fields["style_crop"]) != apart

    def test_each_image_of_a_blend_has_its_own(self) -> None:
        blend = {
            "content": ["cat.png"],
            "style": {"both": ["wave.png", "scream.png"]},
            "style_blend": [[3, 1]],
        }
        rows = made(factors=blend, foils=[{"kind": "unmodified", "of": "style"}])
        assert [row.foil_of for row in rows] == ["wave", "scream"]
        assert all("style_blend" not in row.fields for row in rows)

    def test_without_any_style_it_is_refused(self) -> None:
        with pytest.raises(DesignError, match="noise is a foil of style, but no cell has a style image"):
            make(factors={"content": ["cat.png"]}, foils=[{"kind": "noise", "of": "style"}])


class TestRecipe:
    def test_fields_of_its_own_replace_the_cells(self) -> None:
        look = {"size": 64, "mean_luminance": 0.4, "format": "tiff"}
        plain = {
            "kind": "unmodified",
            "label": "untouched",
            "recipe": {"mean_luminance": None, "pixels": 900},
        }
        matched, untouched = made(
            factors={"content": ["cat.png"]}, recipe=look, foils=[{"kind": "unmodified"}, plain]
        )
        assert matched.fields["mean_luminance"] == 0.4
        assert untouched.fields["mean_luminance"] is None
        assert untouched.fields["pixels"] == 900
        assert "size" not in untouched.fields
        assert untouched.fields["format"] == "tiff"

    def test_a_histogram_of_the_style_makes_one_for_each_style(self) -> None:
        rows = made(recipe={"histogram": "style"}, foils=[{"kind": "noise"}])
        assert [(row.foil_of, row.levels["style"], len(row.styles)) for row in rows] == [
            ("cat", "wave", 1),
            ("cat", "scream", 1),
            ("boat", "wave", 1),
            ("boat", "scream", 1),
        ]
        assert len({row.pair_id for row in rows}) == 4

    def test_a_histogram_of_the_content_is_no_style_s(self) -> None:
        foil: dict[str, Any] = {"kind": "noise", "of": "style"}
        with pytest.raises(DesignError, match="histogram or spectrum cannot be content"):
            make(recipe={"histogram": "content"}, foils=[foil])
        foil["recipe"] = {"histogram": None}
        assert len(made(recipe={"histogram": "content"}, foils=[foil])) == 2

    def test_something_is_left_to_measure(self) -> None:
        rows = made(recipe={"content_weight": 0, "start": "noise"}, foils=[{"kind": "unmodified"}])
        assert rows[0].fields["content_weight"] == 1

    def test_contradictions_are_said_with_the_foil(self) -> None:
        both = {"kind": "noise", "recipe": {"size": 64, "pixels": 900}}
        with pytest.raises(
            DesignError, match=r"foil noise of content \(cell cat_wave\): size and pixels are both"
        ):
            make(foils=[both])


def test_two_images_of_one_name_are_refused() -> None:
    look = {"a": {"content": "cat.png"}, "b": {"content": "../study/boat.png"}}
    assert len(made(factors={"look": look}, foils=[{"kind": "noise"}])) == 2
    look["b"] = {"content": "more/cat.png"}
    store = study()
    store.put(f"{FOLDER}/more/cat.png", picture_bytes(30, 30))
    with pytest.raises(
        DesignError, match=r"/cat\.png and .*/more/cat\.png are both called cat; make content"
    ):
        make_stimuli(store, parse_design(design(factors={"look": look}, foils=[{"kind": "noise"}]), FOLDER))
