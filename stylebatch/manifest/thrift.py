"""The little of Thrift's compact protocol that Parquet's headers need.

A struct becomes a dictionary of its numbers, lists and structs by field id; texts are skipped. See
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from collections.abc import Callable, Mapping
from typing import Any

MAX_DEPTH = 16
"""Structs within each other; Parquet's headers have five."""

MAX_FIELD = 0x7FFF
"""The largest number of a field."""

Struct = Mapping[int, Any]


class TruncatedError(ValueError):
    """The bytes end before the struct does."""


class TooManyItemsError(ValueError):
    """A list is longer than the caller reads."""


class CompactReader:
    """Reads structs from bytes.

    Args:
        data: What to read.
        most_items: The most items of any list.
    """

    def __init__(self, data: bytes, most_items: int) -> None:
        self.position = 0
        self._data = data
        self._most_items = most_items

    def struct(self, depth: int = 0, last: int | None = None) -> Struct:
        """The struct at the current position, or its fields up to the one with the number ``last``.

        Raises:
            ValueError: It is damaged, cut short, nested too deep, or a list is too long.
        """
        if depth > MAX_DEPTH:
            raise ValueError("structs are nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            if number in fields or not 0 < number <= MAX_FIELD:
                raise ValueError("a field is there twice, or has no number")  # readers would differ on it
            fields[number] = self._value(head & 0x0F, depth)
            if number == last:
                break
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._skip(8)
            case 8:
                return self._skip(self._varint())
            case 9 | 10:
                return self._list(depth)
            case 12:
                return self.struct(depth + 1)
        raise ValueError(f"there is no type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > self._most_items:
            raise TooManyItemsError(f"a list has {count} items; at most {self._most_items} are read")
        kind = head & 0x0F
        read: Callable[[], Any] = self._byte if kind in (1, 2) else lambda: self._value(kind, depth + 1)
        return [read() for _ in range(count)]

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
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number is too long")

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, length: int) -> None:
        if length > len(self._data) - self.position:
            raise TruncatedError("it is cut short")
        self.position += length
