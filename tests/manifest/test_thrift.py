"""Thrift's compact protocol, as far as Parquet's headers use it."""

import pytest

from stylebatch.manifest.thrift import CompactReader, Shape, TooManyStructsError, TruncatedError

I32, BINARY, LIST, STRUCT, DOUBLE, TRUE, BYTE = 5, 8, 9, 12, 7, 1, 3


def read(data: bytes, shape: Shape, most: int = 100) -> object:
    return CompactReader(data, most).struct(shape)


def test_numbers_are_kept_and_all_else_is_skipped() -> None:
    data = bytes(
        [
            *(0x15, 0x04),  # field 1: 2
            *(0x18, 0x03, 0x61, 0x62, 0x63),  # field 2: "abc"
            0x11,  # field 3: true
            *(0x17, *range(8)),  # field 4: a double
            *(0x13, 0x07),  # field 5: a byte
            *(0x19, 0x25, 0x02, 0x04),  # field 6: a list of two numbers
            *(0x1C, 0x15, 0x02, 0x00),  # field 7: a struct
            *(0x05, 0x20, 0x09),  # field 16: -5
            0x00,
        ]
    )
    reader = CompactReader(data + b"rest", 1)
    assert reader.struct({1: None, 16: None}) == {1: 2, 16: -5}
    assert reader.position == len(data)


def test_structs_within_structs_and_lists_are_kept_by_their_shapes() -> None:
    inner = bytes([0x15, 0x02, 0x15, 0x04, 0x00])
    data = bytes([0x1C, *inner, 0x19, 0x2C, *inner, *inner, 0x00])
    assert read(data, {1: {2: None}, 2: {1: None}}) == {1: {2: 2}, 2: [{1: 1}, {1: 1}]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x15\x02\x05\x02\x02\x00", "a field is there twice"),
        (b"\x05\x00\x02\x00", "a field has the number 0"),
        (b"\x05\x01\x02\x00", "a field has the number -1"),
        (b"\x05\x80\x80\x10\x02\x00", "a field has the number 131072"),
        (b"\x18\x01a\x00", "a field is of type 8"),
        (b"\x2d\x00", "there is no type 13"),
        (b"\x15" + b"\xff" * 20, "a number is too long"),
        (b"\x2c" * 100, "structs are nested too deep"),
        (b"\x29" + b"\x19" * 100, "nested too deep|cut short"),
        (b"\x29\xf9\xff\xff\xff\xff\x0f", "a list is cut short"),
    ],
)
def test_what_readers_could_differ_on_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(data, {1: None})


@pytest.mark.parametrize("data", [b"", b"\x15", b"\x15\x80", b"\x28\x05ab", b"\x27ab", b"\x2c\x15\x02"])
def test_bytes_that_end_too_early(data: bytes) -> None:
    with pytest.raises(TruncatedError):
        read(data, {1: None})


def test_no_more_structs_are_kept_than_asked_for() -> None:
    data = bytes([0x19, 0xFC, 0x0A, *bytes(10), 0x00])
    assert read(data, {1: {}}, most=11) == {1: [{}] * 10}
    with pytest.raises(TooManyStructsError):
        read(data, {1: {}}, most=10)
    assert read(data, {}, most=1) == {}
