"""What a message repeats of a stranger's text: never a secret, a control character or a novel."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from stylebatch.quoting import MAX_LOCATION, MAX_REASON, has_credentials, quoted, reason, shown

SECRETS = [
    "s3://KEY:SECRET@bucket/key",
    "s3://KEY:SEC/SECRET@bucket/key",
    "s3://SECRET@bucket/key",
    "S3://KEY:SECRET@bucket",
    "//user:SECRET@host/path",
    "https://user:SECRET@example.org/a.png",
    "https://example.org/a.png?X-Amz-Credential=SECRET%2F2024&X-Amz-Signature=SECRET",
    "https://example.org/a.png?x=1&X-Amz-Security-Token=SECRET",
    "https://bucket.example.org/a?AWSAccessKeyId=SECRET&Signature=SECRET&Expires=1",
    "https://example.org/a.png?sv=2022&sig=SECRET",
    "https://example.org/a.png?token=SECRET",
    "/photos/a.png?X-Amz-Signature=SECRET",
]
"""Locations with a credential, which is called SECRET."""


@pytest.mark.parametrize("uri", SECRETS)
def test_credentials_are_seen_and_left_out(uri: str) -> None:
    assert has_credentials(uri)
    for text in (uri, f"{uri}\n", "x" * 60 + uri, uri + "x" * 10_000):
        assert "SECRET" not in quoted(text) or text.startswith("x")
    assert "SECRET" not in reason(f"cannot open {uri}: refused")


@pytest.mark.parametrize("text", ["s3:KEY:SECRET@bucket", "KEY:SECRET@bucket/a", "s3://AKIA:SECRET/key"])
def test_what_may_be_a_credential_is_left_out_as_well(text: str) -> None:
    assert "SECRET" not in quoted(text)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a@b.png",
        "s3://bucket/10:30@x",
        "/data/me@home/a.png",
        "10:30 notes@home.png",
        "s3://bucket/a?version=3",
        "/photos/signature=mine.png",
        "file:///a%20b.png",
    ],
)
def test_other_locations_carry_none(uri: str) -> None:
    assert not has_credentials(uri)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "''"),
        ("plain", "'plain'"),
        ("it's", '"it\'s"'),
        ("a\nb\x1b[31m\0", r"'a\nb\x1b[31m\x00'"),
        ("\u202egnp.exe\ufeff\u200b", r"'\u202egnp.exe\ufeff\u200b'"),
        ("é😀", r"'\xe9\U0001f600'"),
        ("x" * 10_000, f"'{'x' * 80}'..."),
    ],
)
def test_a_quoted_text_is_short_ascii(text: str, expected: str) -> None:
    assert quoted(text) == expected


def test_however_long_a_quoted_text_is_short() -> None:
    assert len(quoted("😀" * 10_000)) < 90
    assert len(quoted("x" * 10_000, MAX_LOCATION)) < MAX_LOCATION + 10
    assert len(reason("x" * 10_000)) == MAX_REASON


def test_a_long_text_is_quoted_at_once() -> None:
    started = time.process_time()
    quoted("s3://" + ":/?&@key=" * 2_000_000)
    has_credentials("s3://bucket/" + "?&key" * 100_000)
    assert time.process_time() - started < 2


def nested(breadth: int, depth: int) -> list[Any]:
    """A list that holds ``breadth ** depth`` others, in little memory."""
    value: list[Any] = ["x"]
    for _ in range(depth):
        value = [value] * breadth
    return value


LARGE_VALUES: dict[str, Callable[[], Any]] = {
    "deep list": lambda: nested(9, 30),
    "deep dict": lambda: {"a": {"b": nested(9, 30)}},
    "long list": lambda: [[1.5] * 10**6],
    "huge number": lambda: 10**5000,
    "bytes": lambda: b"x" * 10**6,
    "text": lambda: "x" * 10**6,
}


@pytest.mark.parametrize("name", LARGE_VALUES)
def test_a_value_is_shown_in_short_however_large_it_is(name: str) -> None:
    value = LARGE_VALUES[name]()
    started = time.process_time()
    assert 0 < len(shown(value)) < 100
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("value", [1, -1.5, None, True, [1, "a"], ("conv1_1",), {}, float("nan"), 10**30])
def test_a_short_value_is_shown_as_python_writes_it(value: Any) -> None:
    assert shown(value) == repr(value)


def test_a_reason_is_one_printable_line() -> None:
    assert reason(ValueError("bad\nthing\tat  \x1b[31m s3://K:S@b")) == "bad thing at ?[31m s3://***@b"
    assert reason("ends with a dot.") == "ends with a dot"
