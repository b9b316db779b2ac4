"""The decoder against a corpus: whatever the bytes, a picture or a PictureError, and soon."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hostile.pictures import (
    REFUSED,
    compressed_zeros,
    cut_up,
    every_mode_of_every_format,
    icon,
    iptc,
    png,
    postscript,
    progressive_scans,
)
from hostile.running import run_apart
from hypothesis import given, settings
from hypothesis import strategies as st
from inmemory import MemoryStore, picture_bytes
from PIL import EpsImagePlugin, Image
from torch import Tensor

from stylebatch.errors import PictureError, SynthesisError
from stylebatch.pair import loading
from stylebatch.pair.loading import Loader
from stylebatch.pairs import Pair
from stylebatch.pictures import decode, fetching, from_pillow, header_size
from stylebatch.pictures.encoding import decode_exactly
from stylebatch.pictures.headers import MAX_JPEG_SCANS
from stylebatch.recipe import Recipe
from stylebatch.synthesis.vgg import check_image_size

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, over damaged metadata

WHOLE = cut_up()
SECONDS = 3
"""Within which any file of the corpus is decoded or refused; on a busy machine, too."""


def decode_or_refuse(data: bytes) -> str:
    started = time.process_time()
    try:
        picture, _ = decode_exactly(data, "s3://bucket/x", max_pixels=1_000_000)
    except PictureError as error:
        said = str(error)
    else:
        said = f"s3://bucket/x {picture.mode}"
    assert time.process_time() - started < SECONDS
    return said


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_said_by_name_at_once(name: str) -> None:
    make, reason = REFUSED[name]
    data = make()
    started = time.process_time()
    with pytest.raises(PictureError) as raised:
        decode(data, "s3://bucket/x")
    message = str(raised.value)
    assert time.process_time() - started < SECONDS
    assert message.startswith("s3://bucket/x ")
    assert reason in message
    assert "SECRET" not in message
    assert message.isprintable()
    assert len(message) < 350
    with contextlib.suppress(PictureError):
        header_size(data, "s3://bucket/x")


def test_every_mode_of_every_format_is_a_picture_or_refused() -> None:
    outcomes = {name: decode_or_refuse(data) for name, data in every_mode_of_every_format()}
    assert len(outcomes) > 45
    assert {said for said in outcomes.values() if not said.endswith(" RGB")} == set()


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    for size in ((1, 1), (3, 2), (2000, 1), (1, 2000)):
        assert (from_pillow(Image.new(mode, size)).mode, size) == ("RGB", size)
    with pytest.raises(PictureError, match="0 x 5 pixels; a picture has at least one"):
        from_pillow(Image.new(mode, (0, 5)))


def test_files_cut_at_every_kilobyte_are_pictures_or_refused() -> None:
    cuts = {name: range(1024, len(data), 1024) for name, data in WHOLE.items()}
    assert sum(map(len, cuts.values())) > 300
    for name, data in WHOLE.items():
        assert decode_or_refuse(data).endswith(" RGB"), name
        for cut in cuts[name]:
            decode_or_refuse(data[:cut])
            with contextlib.suppress(PictureError):
                header_size(data[:cut], "x")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
    near_start=st.booleans(),
)
def test_any_change_of_a_file_is_a_picture_or_refused(
    name: str, changes: list[tuple[int, int]], near_start: bool
) -> None:
    data = bytearray(WHOLE[name])
    for place, value in changes:
        data[place % (200 if near_start else len(data))] = value
    said = decode_or_refuse(bytes(data))
    assert said.isprintable()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"P6 ", b"8BPS\0\1"]),
)
def test_any_bytes_are_a_picture_or_refused(data: bytes, start: bytes) -> None:
    assert decode_or_refuse(start + data).startswith("s3://bucket/x ")


@pytest.mark.parametrize("make", [postscript, lambda: iptc(postscript()), lambda: icon(postscript())])
def test_postscript_is_given_to_no_other_program(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: ran.append(arguments))
    with pytest.raises(PictureError):
        decode(make(), "x")
    assert ran == []


def test_the_scans_of_ordinary_files_are_decoded() -> None:
    assert decode(progressive_scans(0), "x").size == (512, 512)
    assert decode(progressive_scans(MAX_JPEG_SCANS - 10), "x").size == (512, 512)


@pytest.mark.parametrize(("bits", "colour", "bytes_per_pixel"), [(8, 0, 1), (16, 0, 2), (8, 4, 2), (8, 6, 4)])
def test_decoding_takes_nine_bytes_a_pixel(
    tmp_path: Path, bits: int, colour: int, bytes_per_pixel: int
) -> None:
    path, side = tmp_path / "x.png", 5000
    pixels = compressed_zeros(side * (side * bytes_per_pixel + 1))
    path.write_bytes(png(side, side, pixels, bits, colour))
    decoded, growth = run_apart("decode", path)
    assert decoded == side**2
    assert growth * 2**20 / decoded < 10  # with a band of a million pixels


class TestLoading:
    """What a worker fetches and holds."""

    def pair(self, content: str, **settings: Any) -> Pair:
        return Pair("p", 0, content, (), Recipe(**settings))

    def test_no_more_than_the_limit_is_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loading, "LARGE_FILE_BYTES", 1000)
        monkeypatch.setattr(fetching, "MAX_FILE_BYTES", 1 << 20)
        store = MemoryStore({"/in/huge.png": bytes(5 << 20)})
        with pytest.raises(
            PictureError, match=r"/in/huge\.png is a file of more than 1 MB, which is not fetched"
        ):
            Loader(store, 0).load(self.pair("/in/huge.png"))
        assert store.read == [("/in/huge.png", 1000), ("/in/huge.png", (1 << 20) + 1)]

    def test_a_large_file_is_read_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loading, "LARGE_FILE_BYTES", 1000)
        data = picture_bytes(64, 48)
        store = MemoryStore({"/in/c.png": data})
        loaded = Loader(store, 0).load(self.pair("/in/c.png", size=32))
        assert loaded.start.shape == (3, 24, 32)
        assert store.read == [("/in/c.png", 1000), ("/in/c.png", len(data))]

    @pytest.mark.parametrize("limit", ["LARGE_PIXELS", "LARGE_FILE_BYTES"])
    def test_one_large_picture_is_in_memory_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch, limit: str
    ) -> None:
        monkeypatch.setattr(loading, limit, 1000)
        at_once, most = [], []

        def noted(data: bytes, source: str, max_pixels: int) -> tuple[Image.Image, Tensor | None]:
            at_once.append(source)
            most.append(len(at_once))
            time.sleep(0.01)
            at_once.remove(source)
            return decode_exactly(data, source, max_pixels)

        monkeypatch.setattr(loading, "decode_exactly", noted)
        store = MemoryStore({f"/in/{i}.png": picture_bytes(64, 48) for i in range(8)})
        loader = Loader(store, 0)
        with ThreadPoolExecutor(8) as threads:
            loaded = list(threads.map(lambda i: loader.load(self.pair(f"/in/{i}.png", size=16)), range(8)))
        assert len(loaded) == 8
        assert max(most) == 1

    def test_a_strip_is_too_narrow_for_the_network_or_too_long(self) -> None:
        store = MemoryStore({"/in/strip.png": picture_bytes(1, 100_000)})
        with pytest.raises(SynthesisError, match="512 x 51200000 pixels; at most 268435456 are possible"):
            Loader(store, 0).load(self.pair("/in/strip.png", size=None, shorter_side=512))
        loaded = Loader(store, 0).load(self.pair("/in/strip.png", size=512))
        assert loaded.start.shape == (3, 512, 1)
        with pytest.raises(SynthesisError, match="1 x 512 pixels is too small for conv5_1"):
            check_image_size(512, 1, "conv5_1")
