"""The little of Thrift's compact protocol that Parquet's headers need: numbers in structs in lists.

See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Where readers could
differ on what some bytes mean, these are refused.
"""

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
"""Structs and lists within each other; Parquet's headers have nine."""
MAX_FIELD = 0x7FFF
"""The largest number of a field."""

STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
INTEGERS = (4, 5, 6)

Shape = Mapping[int, "Shape | None"]
"""What to keep of a struct, by field: None for a number, a shape for a struct or each struct of a list."""
Struct = Mapping[int, Any]
"""The numbers, structs and lists of structs that were kept, by field."""


class TruncatedError(ValueError):
    """The bytes end before the struct does."""


class TooManyStructsError(ValueError):
    """There are more structs than the caller keeps."""


class CompactReader:
    """Reads structs from bytes.

    Args:
        data: What to read.
        most: How many structs are kept altogether.
    """

    def __init__(self, data: bytes, most: int) -> None:
        self.position = 0
        self._data = data
        self._left = most

    def struct(self, shape: Shape, depth: int = 0) -> Struct:
        """The struct at the current position.

        Raises:
            ValueError: It is damaged, cut short, or nested too deep.
            TooManyStructsError: There are more structs than may be kept.
        """
        self._left -= 1
        if self._left < 0:
            raise TooManyStructsError("there are too many structs")
        kept: dict[int, Any] = {}
        for number, kind in self._fields(depth):
            if number in kept:
                raise ValueError("a field is there twice")
            if number in shape:
                kept[number] = self._value(kind, shape[number], depth)
            else:
                self._skip(kind, depth)
        return kept

    def _fields(self, depth: int) -> Any:
        """The number and kind of each field of a struct; the caller reads or skips its value."""
        if depth > MAX_DEPTH:
            raise ValueError("structs are nested too deep")
        number = 0
        while (head := self._byte()) != STOP:
            number = number + (head >> 4) if head >> 4 else self._signed()
            if not 0 < number <= MAX_FIELD:
                raise ValueError(f"a field has the number {number}")
            yield number, head & 0x0F

    def _value(self, kind: int, shape: Shape | None, depth: int) -> Any:
        if shape is None and kind in INTEGERS:
            return self._signed()
        if shape is not None and kind == STRUCT:
            return self.struct(shape, depth + 1)
        if shape is not None and kind in (LIST, SET):
            count, item = self._list_head()
            if item == STRUCT:
                return [self.struct(shape, depth + 1) for _ in range(count)]
        raise ValueError(f"a field is of type {kind}")

    def _skip(self, kind: int, depth: int) -> None:
        if kind in INTEGERS:
            self._varint()
        elif kind == BINARY:
            self._advance(self._varint())
        elif kind in (BYTE, DOUBLE):
            self._advance(1 if kind == BYTE else 8)
        elif kind in (LIST, SET):
            count, item = self._list_head()
            for _ in range(count):
                self._skip_item(item, depth + 1)
        elif kind == STRUCT:
            for _, inner in self._fields(depth + 1):
                self._skip(inner, depth + 1)
        elif kind not in (TRUE, FALSE):
            raise ValueError(f"there is no type {kind}")

    def _skip_item(self, kind: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("lists are nested too deep")
        self._skip(BYTE if kind in (TRUE, FALSE) else kind, depth)  # in a list a truth value takes a byte

    def _list_head(self) -> tuple[int, int]:
        """How many items a list has, and of which kind; each takes at least a byte."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self.position:
            raise TruncatedError("a list is cut short")
        return count, head & 0x0F

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise TruncatedError("it is cut short")
        self.position += 1
        return self._data[self.position - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _advance(self, length: int) -> None:
        if length > len(self._data) - self.position:
            raise TruncatedError("it is cut short")
        self.position += length
