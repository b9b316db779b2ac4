"""Recipe files: plain fields are read, and nothing that YAML can do besides."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from inmemory import MemoryStore

from stylebatch.errors import NotFoundError, RecipeError, StorageError
from stylebatch.recipe import Recipe
from stylebatch.recipe_file import ALLOWED, MAX_RECIPE_BYTES, read_recipe_fields
from stylebatch.recipe_text import parse_fields

URI = "s3://bucket/recipe.yaml"

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
MERGES = "a0: &a0 {size: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)
)


def fields_of(text: str | bytes) -> dict[str, Any]:
    data = text if isinstance(text, bytes) else text.encode()
    return read_recipe_fields(MemoryStore({URI: data}), URI)


def test_plain_fields_are_read() -> None:
    text = """
    # a comment
    style_weight: 1e4
    style_layers: [conv1_1, conv2_1]
    content_layers:
      - conv4_2
    size: 256
    start: "a b.png"
    shorter_side:
    """
    recipe = Recipe(**parse_fields(fields_of(text)))
    assert recipe == Recipe(
        style_weight=1e4,
        style_layers=["conv1_1", "conv2_1"],
        content_layers=["conv4_2"],
        size=256,
        start="a b.png",
    )


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    assert fields_of(b"\xef\xbb\xbfsize: 32") == {"size": 32}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, "line 1: there is an anchor or alias ('a0')"),
        (MERGES, "line 1: there is an anchor or alias ('a0')"),
        ("size: *x", "line 1: there is an anchor or alias ('x')"),
        (
            "seed: 1\nsize: !!python/object/apply:os.system ['echo']",
            "line 2: there is a tag ('tag:yaml.org,2002:python/object/apply:os.system')",
        ),
        ("!!python/object/new:subprocess.Popen [[ls]]", "line 1: there is a tag"),
        ("size: !!int 5", "line 1: there is a tag ('tag:yaml.org,2002:int')"),
        ("!mine\nsize: 5", "line 1: there is a tag ('!mine')"),
        ("size: 1\nsize: 2", "line 2: the field 'size' is there twice"),
        ("1: 2", "line 1: a field's name is not text"),
        ("null: 2", "line 1: a field's name is not text"),
        ("? [a]\n: 1", "line 1: a field's name is not text"),
        ("size: 1\n---\nseed: 2", "line 2: a second document begins"),
        ("[" * 9000, "line 1: lists or fields are nested too deep"),
        ("a: {" * 2000, "line 1: lists or fields are nested too deep"),
        ("- " * 5000, "line 1: lists or fields are nested too deep"),
        ("size: b: c", "line 1: mapping values are not allowed here"),
        ("size: [1", "line 1: expected ',' or ']'"),
        ("size: \0", "unacceptable character #x0000"),
        ("size: \x1b[31m", "unacceptable character #x001b"),
        ("size: " + "9" * 9000, "a number or date that cannot be read"),
        ("size: 2026-13-45", "a number or date that cannot be read"),
        ("", "the file holds no fields"),
        ("42", "the file holds no fields"),
        ("[size]", "the file holds no fields"),
        (b"\xff\xfes\0i\0z\0e\0", "the file is not UTF-8 text (byte 0)"),
        (b"size: \xc3\x28", "the file is not UTF-8 text (byte 6)"),
        ("#" * (MAX_RECIPE_BYTES + 1), f"the file has more than {MAX_RECIPE_BYTES} bytes"),
        (b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix", "the file is not UTF-8 text"),
        ("<html>", "the file holds no fields"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_fields_do_not_need_is_refused(text: str | bytes, problem: str) -> None:
    started = time.process_time()
    with pytest.raises(RecipeError) as raised:
        fields_of(text)
    message = str(raised.value)
    assert message.startswith(f"{URI}: ")
    assert problem in message
    assert message.endswith(ALLOWED)
    assert message.isprintable()
    assert len(message) < 500
    assert time.process_time() - started < 2


def test_nothing_of_a_tag_runs(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    path = f"!!python/object/apply:pathlib.Path ['{marker}']"
    with pytest.raises(RecipeError):
        fields_of(f"size: !!python/object/apply:pathlib.Path.touch [{path}]")
    assert not marker.exists()


def test_a_secret_in_a_broken_file_is_not_repeated() -> None:
    with pytest.raises(RecipeError) as raised:
        fields_of("start: s3://KEY:SECRET@bucket: {")
    assert "SECRET" not in str(raised.value)


def test_no_more_is_fetched_than_may_be_read() -> None:
    store = MemoryStore({URI: b"#" * 10_000_000})
    with pytest.raises(RecipeError, match="has more than"):
        read_recipe_fields(store, URI)
    assert store.read == [(URI, MAX_RECIPE_BYTES + 1)]


def test_the_longest_file_is_read_in_time() -> None:
    items = "1," * ((MAX_RECIPE_BYTES - 20) // 2)
    started = time.process_time()
    fields = fields_of(f"style_blend: [{items}]")
    assert time.process_time() - started < 10
    with pytest.raises(RecipeError, match=r"style_blend is \[1, 1, .*at most 64"):
        Recipe(**parse_fields(fields))


def test_a_location_is_checked_and_a_missing_file_is_said() -> None:
    with pytest.raises(NotFoundError, match=re.escape(URI)):
        read_recipe_fields(MemoryStore(), URI)
    for location in ("https://example.org/r.yaml", "/proc/self/environ", "s3://K:SECRET@bucket/r.yaml"):
        with pytest.raises(StorageError) as raised:
            read_recipe_fields(MemoryStore(), location)
        assert "SECRET" not in str(raised.value)
