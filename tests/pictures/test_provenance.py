"""The provenance inside published files, and hostile files that pretend to have one."""

import json
from io import BytesIO
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylebatch.errors import PictureError
from stylebatch.pictures import read_provenance
from stylebatch.pictures.encoding import encode

PIXELS = torch.full((3, 8, 9), 100.0)
PROVENANCE: dict[str, Any] = {
    "recipe": {"seed": 2**63 - 1, "style_layers": ["conv1_1"], "size": None},
    "loss": 0.1,
    "content": "s3://bilder/Straße ☃.jpg",
}


def png_saying(text: str, keyword: str = "stylebatch", compressed: bool = False) -> bytes:
    chunks = PngInfo()
    chunks.add_text(keyword, text, zip=compressed)
    file = BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def jpeg_saying(comment: bytes) -> bytes:
    file = BytesIO()
    Image.new("RGB", (2, 2)).save(file, "JPEG", comment=comment)
    return file.getvalue()


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_files_say_how_they_were_made(name: str) -> None:
    assert read_provenance(encode(PIXELS, name, 90, PROVENANCE), "x") == PROVENANCE


def test_the_text_is_canonical_json() -> None:
    canonical = json.dumps(PROVENANCE, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    with Image.open(BytesIO(encode(PIXELS, "png", 90, PROVENANCE))) as picture:
        assert picture.info == {"stylebatch": canonical, "srgb": 0}
    with Image.open(BytesIO(encode(PIXELS, "jpeg", 90, PROVENANCE))) as picture:
        assert picture.info["comment"] == b"stylebatch:" + canonical.encode()


def test_an_array_file_carries_none() -> None:
    assert b"seed" not in encode(PIXELS, "npy", 90, PROVENANCE)
    with pytest.raises(PictureError, match=r"x\.npy is a \.npy file, which carries no provenance"):
        read_provenance(encode(PIXELS, "npy", 90, PROVENANCE), "x.npy")


@pytest.mark.parametrize(("name", "limit"), [("jpeg", 65_522), ("png", 1_048_576)])
def test_provenance_up_to_the_limit(name: str, limit: int) -> None:
    longest = {"a": "x" * (limit - len('{"a":""}'))}
    assert read_provenance(encode(PIXELS, name, 90, longest), "x") == longest
    with pytest.raises(
        PictureError, match=f"is {limit + 1} bytes long; a {name.upper()} file carries at most"
    ):
        encode(PIXELS, name, 90, {"a": longest["a"] + "x"})


def test_numbers_that_json_lacks_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(PIXELS, "png", 90, {"loss": float("nan")})


@pytest.mark.parametrize(
    "data",
    [
        png_saying("hello", keyword="Comment"),
        png_saying('stylebatch:{"a":1}', keyword="comment"),
        jpeg_saying(b"made with love"),
        jpeg_saying(b'{"a": 1}'),
        jpeg_saying(b""),
    ],
)
def test_files_without_provenance(data: bytes) -> None:
    with pytest.raises(PictureError, match="x carries no provenance: stylebatch did not make it, or another"):
        read_provenance(data, "x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a":' * 9 + "1" + "}" * 9, "not a JSON object"),
        ('{"a":' + "[" * 400 + "]" * 400 + "}", "not a JSON object of at most 8 levels"),
        ("\x00\xff", "not JSON"),
        (" " * 1_048_577, "1048577 characters long"),
    ],
    ids=[
        "empty",
        "text",
        "deep",
        "deep object",
        "huge number",
        "list",
        "null",
        "nine levels",
        "lists",
        "bytes",
        "too long",
    ],
)
def test_damaged_provenance(text: str, reason: str) -> None:
    files = [png_saying(text)]
    if len(text) < 65_000:
        files.append(jpeg_saying(b"stylebatch:" + text.encode("latin-1")))
    for data in files:
        with pytest.raises(PictureError, match=f"the provenance in x is damaged: it is {reason}"):
            read_provenance(data, "x")


def test_eight_levels_are_read() -> None:
    text = '{"a":' * 8 + "1" + "}" * 8
    assert read_provenance(png_saying(text), "x") == json.loads(text)


@pytest.mark.parametrize("text", ["\x1b[31m", "\u202egnp", "\ud800", "\x00", "\x9b31m"])
def test_what_is_read_is_safe_on_a_terminal_as_yaml(text: str) -> None:
    provenance = read_provenance(png_saying(json.dumps({"pair_id": text, text: 1})), "x")
    assert provenance == {"pair_id": text, text: 1}
    shown = yaml.safe_dump(provenance)
    assert shown.replace("\n", "").isprintable()
    assert shown.isascii()


def test_a_compressed_bomb_is_refused() -> None:
    with pytest.raises(PictureError, match="cannot be decoded"):
        read_provenance(png_saying(" " * 50_000_000, compressed=True), "x")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_picture(data: bytes) -> None:
    with pytest.raises(PictureError):
        read_provenance(data, "x")
