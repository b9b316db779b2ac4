"""URIs as users write them, and Parquet through ranged reads."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from stylebatch.errors import NotFoundError, StorageError
from stylebatch.objectstore import (
    MAX_URI_LENGTH,
    ObjectFile,
    is_s3,
    join_uri,
    parent_uri,
    resolve_uri,
)
from stylebatch.storage import LocalStore


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("s3://bucket/a/b.png", None, "s3://bucket/a/b.png"),
        ("s3://bucket", None, "s3://bucket"),
        ("s3://bucket/", None, "s3://bucket"),
        ("s3://bucket//a/./b/../c/", None, "s3://bucket/a/c"),
        ("s3://bucket/a b é?#%20", None, "s3://bucket/a b é?#%20"),
        ("/data/a.png", None, "/data/a.png"),
        ("/data//x/../a.png", None, "/data/a.png"),
        ("file:///data/a%20b.png", None, "/data/a b.png"),
        ("file://localhost/data/a.png", None, "/data/a.png"),
        ("images/a.png", "/data", "/data/images/a.png"),
        ("../a.png", "/data/manifests", "/data/a.png"),
        ("../../../a.png", "/data", "/a.png"),
        ("/other/a.png", "/data", "/other/a.png"),
        ("s3://bucket/a.png", "/data", "s3://bucket/a.png"),
        ("images/a.png", "s3://bucket/jobs/1", "s3://bucket/jobs/1/images/a.png"),
        ("../a.png", "s3://bucket/jobs/1", "s3://bucket/jobs/a.png"),
        ("a.png", "s3://bucket", "s3://bucket/a.png"),
        ("/data/a.png", "s3://bucket/jobs", "/data/a.png"),
        ("10:30 notes@home.png", "/data", "/data/10:30 notes@home.png"),
    ],
)
def test_what_a_user_wrote_becomes_canonical(text: str, base: str | None, expected: str) -> None:
    assert resolve_uri(text, base) == expected


def test_dots_do_not_lead_out_of_a_bucket() -> None:
    assert resolve_uri("../../../other-bucket/a", "s3://bucket/jobs") == "s3://bucket/other-bucket/a"
    assert resolve_uri("s3://bucket/../../other-bucket/a") == "s3://bucket/other-bucket/a"


def test_a_relative_path_starts_in_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert resolve_uri("a/b.png") == f"{Path.cwd()}/a/b.png"
    assert resolve_uri("~/b.png") == "/home/somebody/b.png"
    assert resolve_uri("~/b.png", "s3://bucket") == "/home/somebody/b.png"


def test_a_canonical_uri_stays_as_it_is() -> None:
    for text in ("s3://bucket//x/../y é", "../a", "file:///a%20b"):
        canonical = resolve_uri(text, "/data/manifests")
        assert resolve_uri(canonical, "/elsewhere") == canonical


@pytest.mark.parametrize(
    "text",
    ["s3://name:SECRET@bucket/key", "s3://SECRET@bucket/key", "https://name:SECRET@example.org/a.png"],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(StorageError) as raised:
        resolve_uri(text)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["https://example.org/a", "gs://bucket/a", "s3a://bucket/a", "file://host/a"]
)
def test_other_schemes_are_refused(text: str) -> None:
    scheme = text.partition(":")[0]
    with pytest.raises(StorageError, match=rf"^{scheme}:// locations are not supported; use s3://"):
        resolve_uri(text)


@pytest.mark.parametrize("text", ["", "a\nb", "a\0b", "s3://bucket/a\x1b[31m", "a" * (MAX_URI_LENGTH + 1)])
def test_control_characters_and_absurd_lengths_are_refused(text: str) -> None:
    with pytest.raises(StorageError, match="printable characters") as raised:
        resolve_uri(text)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        *("s3://KEY:SEC/SECRET@bucket/key", "S3://KEY:SECRET@bucket/key", "s3:KEY:SECRET@bucket"),
        *("file://user:SECRET@host/a", "//user:SECRET@host/a", "https://user:SECRET@host/a"),
        *("https://host/a?X-Amz-Signature=SECRET", "s3://bucket/a?X-Amz-Signature=SECRET&x=1"),
        *("s3://bucket/a?AWSAccessKeyId=SECRET&Signature=SECRET", "a.png?token=SECRET", "/a.png?sig=SECRET"),
        *("file:///a%3Fsig=SECRET", "s3://KEY:SECRET@bucket/\n", "s3://KEY:SECRET@bucket/" + "x" * 9999),
        *("s3://KEY:SECRET" + "x" * 9999 + "@bucket/a", "s3://KEY%3ASECRET@bucket/a"),
    ],
    ids=lambda text: text[:40],
)
@pytest.mark.parametrize("base", [None, "/data", "s3://bucket/jobs"])
def test_no_kind_of_credential_is_taken_or_repeated(text: str, base: str | None) -> None:
    with pytest.raises(StorageError) as raised:
        resolve_uri(text, base)
    assert "SECRET" not in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:/data/a.png", "/data/a.png"),
        ("file:///data/a%23b%3F.png", "/data/a#b?.png"),
        ("FILE:///data/a.png", "/data/a.png"),
        ("file:///data/%2e%2e/a.png", "/a.png"),
        ("s3://bucket/%2e%2e/a", "s3://bucket/%2e%2e/a"),
        ("a\\..\\b.png", "/data/a\\..\\b.png"),
        ("C:/a.png", "/data/C:/a.png"),
        ("./s3:/a.png", "/data/s3:/a.png"),
        ("ﬁle.png", "/data/ﬁle.png"),
        ("CON.png", "/data/CON.png"),
    ],
)
def test_odd_names_are_names(text: str, expected: str) -> None:
    assert resolve_uri(text, "/data") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ｓ3://bucket/a", r"\uff533:// locations are not supported"),
        ("ſ3://bucket/a", r"\u017f3:// locations are not supported"),
        ("https:/host/a", "https:// locations are not supported"),
        ("data:image/png;base64,iVBORw0KGgo=", "data:// locations are not supported"),
        ("javascript://x/%0aalert(1)", "javascript:// locations are not supported"),
        ("://x", ":// locations are not supported"),
        ("file://[::1/a", "file:// locations are not supported"),
        ("https://[::1", "https:// locations are not supported"),
        ("https://\u2100@x/", "a location must not carry credentials"),
        ("file:///a?b", "has a ? or # in it; write %3F or %23"),
        ("file:///a#b", "has a ? or # in it; write %3F or %23"),
        ("file:///a%00b", "printable characters"),
        ("file:///a%0Ab", "printable characters"),
        ("file:///a%1b%5b31m", "printable characters"),
        ("a\u200b.png", "printable characters"),
        ("\ufeffa.png", "printable characters"),
        ("gnp\u202e.exe", "printable characters"),
        ("a\u2028b", "printable characters"),
        ("a\ud800b", "printable characters"),
        ("s3://bücket/a", "names no bucket"),
        ("s3://buc\u200bket/a", "printable characters"),
        ("s3:/bucket/a", "in small letters"),
        ("S3://bucket/a", "in small letters"),
        ("~no-such-user-here/a", "write the folder out in full"),
        ("a/" * 3000, "printable characters"),
    ],
)
def test_what_is_no_location_is_said(text: str, said: str) -> None:
    with pytest.raises(StorageError) as raised:
        resolve_uri(text, "/data")
    assert said in str(raised.value)
    assert str(raised.value).isascii()
    assert str(raised.value).isprintable()


def test_a_relative_location_is_checked_where_it_leads() -> None:
    for base in ("/" + "folder/" * 500, "s3://bucket/" + "folder/" * 500):
        with pytest.raises(StorageError, match="it must be 1 to 4096 printable characters"):
            resolve_uri("a/" * 500, base)


@pytest.mark.parametrize(
    "text",
    [
        *("/proc/self/environ", "/proc", "/proc/kmsg", "/sys/kernel/notes", "file:///proc/self/mem"),
        *("../../proc/self/environ", "/dev/../proc/1/environ", "//proc/self/environ", "/data/../proc/kcore"),
    ],
)
def test_what_the_machine_says_of_itself_is_no_file(text: str) -> None:
    with pytest.raises(StorageError, match="what is below /proc and /sys is the machine's word of itself"):
        resolve_uri(text, "/data")


def test_what_only_looks_like_a_system_folder_is_a_folder() -> None:
    for path in ("/procedures/a", "/data/proc/a", "/system/a", "/dev/shm/a"):
        assert resolve_uri(path) == path


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="s3:/@?#%.~-ab\\\0\n", max_size=40),
        st.builds(
            "".join,
            st.lists(
                st.sampled_from(["s3://", "file://", "..", "/", "bucket", "%00", "@", "~", "a"]), max_size=9
            ),
        ),
    ),
    base=st.sampled_from([None, "/data/job", "s3://bucket/job", "s3://bucket", "/"]),
)
def test_any_text_is_a_canonical_location_or_refused(text: str, base: str | None) -> None:
    try:
        uri = resolve_uri(text, base)
    except StorageError as error:
        message = str(error)
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 500
        return
    assert uri.isprintable()
    assert len(uri) <= MAX_URI_LENGTH
    assert uri.startswith(("/", "s3://"))
    assert not {".", ".."} & set(uri.split("/"))
    assert resolve_uri(uri, "/elsewhere") == uri
    if text.startswith("s3://"):
        assert uri.split("/")[2] == text.split("/")[2]


@pytest.mark.parametrize("text", ["s3://", "s3:///key", "s3://a/key", "s3://-bucket/key", "s3://buc ket/key"])
def test_an_s3_uri_needs_a_bucket(text: str) -> None:
    with pytest.raises(StorageError, match="names no bucket"):
        resolve_uri(text)


def test_join_and_parent_are_inverse() -> None:
    for folder in ("s3://bucket/jobs/1", "/data/jobs"):
        uri = join_uri(folder, "images", "a.png")
        assert uri == f"{folder}/images/a.png"
        assert parent_uri(parent_uri(uri)) == folder
    assert join_uri("s3://bucket/", "a") == "s3://bucket/a"
    assert join_uri("/", "a") == "/a"
    assert parent_uri("/a") == "/"


def test_s3_is_told_from_paths() -> None:
    assert is_s3("s3://bucket/a")
    assert not is_s3("/s3://bucket/a")


@dataclass
class CountingStore(LocalStore):
    """A LocalStore that adds up what is read through it."""

    bytes_read: int = field(default=0)

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        data = super().get_range(uri, start, length)
        self.bytes_read += len(data)
        return data


def test_one_row_group_is_read_without_the_rest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"noise": np.random.default_rng(0).random(40_000)})
    parquet.write_table(table, path, row_group_size=1_000, compression="none", use_dictionary=False)
    store = CountingStore()

    with parquet.ParquetFile(ObjectFile(store, str(path))) as file:
        assert file.num_row_groups == 40
        row_group = file.read_row_group(17)

    assert row_group.equals(table.slice(17_000, 1_000))
    assert 8_000 < store.bytes_read < path.stat().st_size / 4


def test_an_object_file_seeks_and_reads_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with ObjectFile(LocalStore(), str(path)) as file:
        assert (file.readable(), file.seekable()) == (True, True)
        assert file.read(3) == b"\x00\x01\x02"
        assert file.tell() == 3
        assert file.seek(2, io.SEEK_CUR) == 5
        assert file.read(1) == b"\x05"
        assert file.seek(-2, io.SEEK_END) == 98
        assert file.read(10) == b"\x62\x63"
        assert file.read(10) == b""
        assert file.seek(200) == 200
        assert file.read() == b""
        file.seek(90)
        assert file.readall() == bytes(range(90, 100))


def test_a_missing_object_is_found_missing_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        ObjectFile(LocalStore(), f"{tmp_path}/nothing")
