"""Crops: inside the image, seeded fairly, and apart from what is used where there is room."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import FOLDER, make

from stylebatch.design.crops import Box, Crop, overlap, take, take_apart
from stylebatch.errors import DesignError

sides = st.integers(1, 9)
NUMBERS = st.integers(0, 2**63 - 1)


def test_places() -> None:
    assert take(Crop("content", 4, 3, "centre"), (10, 8), 5) == (3, 2, 4, 3)
    assert take(Crop("content", 4, 3, (1, 2)), (10, 8), 5) == (1, 2, 4, 3)
    assert take(Crop("content", 10, 8, "seeded"), (10, 8), 5) == (0, 0, 10, 8)


def test_seeded_places_are_equally_likely() -> None:
    crop = Crop("content", 4, 3, "seeded")
    places = Counter(take(crop, (6, 4), number)[:2] for number in range(60))
    assert places == Counter(dict.fromkeys(itertools.product(range(3), range(2)), 10))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_another_crop_is_any_of_the_free_places(data: st.DataObject) -> None:
    size = data.draw(st.tuples(sides, sides))
    width, height = data.draw(st.integers(1, size[0])), data.draw(st.integers(1, size[1]))
    used: list[Box] = data.draw(
        st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), sides, sides), max_size=3)
    )
    crop = Crop("content", width, height, "seeded")
    every = itertools.product(range(size[0] - width + 1), range(size[1] - height + 1))
    free = {place for place in every if not any(overlap((*place, width, height), box) for box in used)}
    found = {take_apart(crop, size, used, number)[:2] for number in range(max(1, len(free)))}
    if free:
        assert found == free
    box = take_apart(crop, size, used, data.draw(NUMBERS))
    assert box[2:] == (width, height)
    assert 0 <= box[0] <= size[0] - width
    assert 0 <= box[1] <= size[1] - height


def test_overlap_is_of_pixels_not_of_edges() -> None:
    assert overlap((0, 0, 4, 4), (3, 3, 4, 4))
    assert not overlap((0, 0, 4, 4), (4, 0, 4, 4))
    assert not overlap((0, 4, 4, 4), (0, 0, 4, 4))


class TestInADesign:
    def test_one_box_for_an_image_in_all_cells_and_inside_it(self) -> None:
        found = make(crop={"width": 20, "height": 30}, replicates=2)
        boxes = {(row.content, tuple(row.fields["content_crop"])) for row in found.stimuli}
        assert len(boxes) == 2
        for uri, (left, top, width, height) in boxes:
            size = (60, 40) if "cat" in str(uri) else (50, 50)
            assert (width, height) == (20, 30)
            assert left + width <= size[0]
            assert top + height <= size[1]

    def test_other_seeds_give_other_boxes(self) -> None:
        crop = {"width": 20, "height": 20}
        boxes = {make(crop=crop, seed=seed).stimuli[0].fields["content_crop"] for seed in range(8)}
        assert len(boxes) > 4

    def test_styles_that_are_blended_share_a_box(self) -> None:
        factors = {"content": ["cat.png"], "style": {"both": ["wave.png", "scream.png"]}}
        found = make(factors=factors, crop={"of": "style", "width": 40, "height": 36, "at": "centre"})
        assert found.stimuli[0].fields["style_crop"] == (0, 0, 40, 36)

    @pytest.mark.parametrize(
        ("crop", "message"),
        [
            (
                {"width": 55, "height": 10},
                f"crop of content: the crop 55 x 10 at [0, 0] does not fit into {FOLDER}/boat.png, which is "
                "50 x 50 pixels",
            ),
            (
                {"width": 10, "height": 10, "at": [45, 2]},
                f"cell boat_wave: the crop 10 x 10 at [45, 2] does not fit into {FOLDER}/boat.png, which is "
                "50 x 50 pixels",
            ),
        ],
    )
    def test_one_that_does_not_fit_is_refused(self, crop: dict[str, object], message: str) -> None:
        with pytest.raises(DesignError) as raised:
            make(crop=crop)
        assert str(raised.value) == message

    def test_one_that_a_factor_sets_is_checked_too(self) -> None:
        factors = {"content": ["cat.png"], "content_crop": {"left": [0, 0, 30, 40], "right": [31, 0, 30, 40]}}
        with pytest.raises(DesignError, match=r"cell cat_right: the crop 30 x 40 at \[31, 0\] does not fit"):
            make(factors=factors)

    def test_one_of_no_image_is_refused(self) -> None:
        with pytest.raises(DesignError, match="crop of style: no cell has a style image"):
            make(factors={"content": ["cat.png"]}, crop={"of": "style", "width": 8, "height": 8})
