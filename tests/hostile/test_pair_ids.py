"""Pair ids name files: none leads anywhere else, and no two lead to one."""

import posixpath
from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stylebatch.layout import Layout
from stylebatch.manifest.identity import LONGEST_ID, default_pair_id, pair_id_problem
from stylebatch.recipe import FILE_SUFFIXES

OUT = "/out/job"
SHA256 = ("0123456789abcdef" * 4, "f" * 64)

safe_ids = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,40}", fullmatch=True)
near_ids = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["a", "A", ".failed", ".json", ".png", ".jpg", ".ckpt", ".0123456789abcdef", "-", "_", "."]
        ),
        min_size=1,
        max_size=5,
    ),
).filter(lambda text: pair_id_problem(text) is None)
locations = st.text(max_size=60) | st.sampled_from(
    [
        *(
            "../../etc/passwd",
            "..",
            "/",
            "",
            ".",
            "a/",
            "s3://bucket",
            "\0",
            "\x1b[2J",
            "x" * 10_000,
            "/.png",
        ),
        *(
            "日本語.jpg",
            "а.png",
            "a\u202egnp.exe",
            ".hidden",
            "-rf",
            "CON",
            "con.aux",
            "a\\..\\b.png",
            "\ud800",
        ),
    ]
)


def files_of(pair_id: str) -> Iterator[str]:
    """Everything that may be stored for a pair."""
    layout = Layout(OUT)
    yield from (layout.image(7, pair_id, suffix) for suffix in FILE_SUFFIXES.values())
    yield from (layout.record(7, pair_id, sha256) for sha256 in SHA256)
    yield layout.failed_record(7, pair_id)
    yield layout.checkpoint(7, pair_id)


@pytest.mark.parametrize(
    "pair_id",
    [
        *("", ".", "..", "...", ".a", "a/b", "../a", "/a", "a\\b", "a\0", "a\n", "\n", "a b", " a", "a "),
        *(
            "а",
            "ａ",
            "a\u200b",
            "a\u202eb",
            "é",
            "😀",
            "\x1b[2J",
            "a:b",
            "a*b",
            "a?b",
            '"a"',
            "a|b",
            "<a>",
            "%2e",
        ),
        *("~", "$HOME", "`id`", "a;b", "x" * (LONGEST_ID + 1), "x" * 10_000, "\ud800"),
    ],
)
def test_ids_that_are_no_file_names_everywhere_are_refused(pair_id: str) -> None:
    problem = pair_id_problem(pair_id)
    assert problem is not None
    assert problem.startswith("pair_id is ")
    assert f"it must be 1 to {LONGEST_ID} characters from A-Z, a-z, 0-9, '.', '_' and '-'" in problem
    assert problem.isascii()
    assert problem.isprintable()
    assert len(problem) < 250


@pytest.mark.parametrize(
    "pair_id", ["a", "-a", "_", "a.", "a..", "con", "NUL", "aux.png", "x" * LONGEST_ID, "0"]
)
def test_other_ids_are_kept(pair_id: str) -> None:
    assert pair_id_problem(pair_id) is None


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text(max_size=30) | safe_ids)
def test_an_id_that_is_kept_stays_in_its_folder(pair_id: str) -> None:
    if pair_id_problem(pair_id):
        return
    for uri in files_of(pair_id):
        assert posixpath.normpath(uri) == uri
        assert uri.split("/")[:3] == OUT.split("/")
        assert len(uri.split("/")) == 6
        name = posixpath.basename(uri)
        assert len(name) <= 255
        assert not name.startswith(".")
        assert not name.endswith((".", " "))


@settings(max_examples=800, deadline=None, derandomize=True)
@given(near_ids | safe_ids, near_ids | safe_ids)
def test_two_ids_share_no_file(one: str, other: str) -> None:
    assume(one.lower() != other.lower())  # validation refuses those that differ by letter case only
    files = {uri.lower() for uri in files_of(one)}
    assert files.isdisjoint(uri.lower() for uri in files_of(other))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.none() | locations, st.lists(locations, max_size=3), st.text(max_size=10))
def test_every_default_id_is_kept(content: str | None, styles: list[str], overrides: str) -> None:
    made = default_pair_id(content, styles, overrides)
    assert pair_id_problem(made) is None
    assert made == default_pair_id(content, styles, overrides)
    assert made != default_pair_id(content, [*styles, "one more"], overrides)
