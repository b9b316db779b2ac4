"""What a manifest's columns are for, which types they may have, and what is wrong with a schema."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache

import pyarrow as pa
from pyarrow import types

from stylebatch.quoting import quoted, reason
from stylebatch.recipe import FIELDS, field_rule

LOCATION_COLUMNS = ("content", "style")
KNOWN_COLUMNS: tuple[str, ...] = ("pair_id", *LOCATION_COLUMNS, *FIELDS)
"""The columns that mean something to the program; every other one is an extra."""

LONGEST_NAME = 255
"""Characters of a column's name."""
NEAR_MISS = 0.85
"""How alike (difflib's ratio) an extra's name must be to that of an absent column to be taken for a slip."""

Accepts = Callable[[pa.DataType], bool]


def is_text(data_type: pa.DataType) -> bool:
    """Whether values of this type are text, or all null."""
    plain = data_type.value_type if types.is_dictionary(data_type) else data_type
    return bool(
        types.is_string(plain)
        or types.is_large_string(plain)
        or types.is_string_view(plain)
        or types.is_null(plain)
    )


def is_list(data_type: pa.DataType) -> bool:
    """Whether values of this type are lists."""
    return bool(
        types.is_list(data_type) or types.is_large_list(data_type) or types.is_fixed_size_list(data_type)
    )


def _is_integer(data_type: pa.DataType) -> bool:
    return bool(types.is_integer(data_type) or types.is_null(data_type))


def _is_number(data_type: pa.DataType) -> bool:
    return _is_integer(data_type) or bool(types.is_floating(data_type))


def _list_of(accepts: Accepts) -> Accepts:
    return lambda data_type: bool(
        types.is_null(data_type) or (is_list(data_type) and accepts(data_type.value_type))
    )


_ALLOWED_BY_KIND: dict[str, tuple[str, Accepts]] = {
    "number": ("an integer or floating-point type", _is_number),
    "integer": (
        "an integer type (a table library may have turned integers with gaps into floats; cast them back)",
        _is_integer,
    ),
    "text": ("a string type", is_text),
    "texts": ("a list of strings", _list_of(is_text)),
    "numbers": ("a list of numbers", _list_of(_is_number)),
    "styles": ("a string type or a list of strings", lambda t: is_text(t) or _list_of(is_text)(t)),
}


def _kind(column: str) -> str:
    if column in FIELDS:
        return field_rule(column).kind
    return "styles" if column == "style" else "text"


def readable_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The known columns that are present once and have a type that fits, in the order of KNOWN_COLUMNS."""
    return tuple(
        name for name in KNOWN_COLUMNS if schema.names.count(name) == 1 and not _type_problem(schema, name)
    )


def unreadable_columns(schema: pa.Schema) -> frozenset[str]:
    """The known columns that the manifest means to have, but with the wrong type, twice or misspelt."""
    missing = LOCATION_COLUMNS if any(_missing(schema)) else ()
    present = frozenset(schema.names) & frozenset(KNOWN_COLUMNS)
    absent = _absent(schema)
    misspelt = {near for name in schema.names if (near := _near_miss(name, absent))}
    return present.union(missing, misspelt) - frozenset(readable_columns(schema))


def extra_schema(schema: pa.Schema) -> pa.Schema:
    """The columns that are carried to the results untouched, in order."""
    return pa.schema([item.with_nullable(True) for item in schema if item.name not in KNOWN_COLUMNS])


def schema_problems(schema: pa.Schema, reserved: frozenset[str] = frozenset()) -> list[str]:
    """Everything that is wrong with the columns, one sentence each.

    Args:
        schema: The manifest's schema.
        reserved: Names of result columns, which no extra may have.
    """
    unnamable = [*_unnamable(schema)]
    return unnamable or [
        *_missing(schema),
        *_repeated(schema),
        *_mistyped(schema),
        *_misnamed(schema, reserved),
    ]


def _unnamable(schema: pa.Schema) -> Iterator[str]:
    for name in schema.names:
        if len(name) > LONGEST_NAME or not name.isprintable():
            yield (
                f"column {quoted(name)} has a name that cannot be shown; rename it to at most {LONGEST_NAME} "
                "printable characters"
            )


def _missing(schema: pa.Schema) -> Iterator[str]:
    if not any(name in schema.names for name in LOCATION_COLUMNS):
        yield "there is neither a content nor a style column; a pair needs one of them"


def _repeated(schema: pa.Schema) -> Iterator[str]:
    for name, count in Counter(schema.names).items():
        if count > 1:
            yield f"column {quoted(name)} is there {count} times; keep one"


def _mistyped(schema: pa.Schema) -> Iterator[str]:
    for name in KNOWN_COLUMNS:
        if schema.names.count(name) == 1 and (problem := _type_problem(schema, name)):
            yield problem


def _type_problem(schema: pa.Schema, name: str) -> str | None:
    allowed, accepts = _ALLOWED_BY_KIND[_kind(name)]
    data_type = schema.field(name).type
    return (
        None if accepts(data_type) else f"column {quoted(name)} is {reason(data_type)}; it must be {allowed}"
    )


def _misnamed(schema: pa.Schema, reserved: frozenset[str]) -> Iterator[str]:
    absent = _absent(schema)
    for name in dict.fromkeys(schema.names):
        if name in reserved and name not in KNOWN_COLUMNS:
            yield f"column {quoted(name)} has the name of a result column; rename it"
        elif near := _near_miss(name, absent):
            yield (
                f"column {quoted(name)} is not a recipe field (did you mean {near}?); "
                "rename it if it is meant as an extra column"
            )


def _absent(schema: pa.Schema) -> tuple[str, ...]:
    """The known columns that the manifest lacks."""
    present = frozenset(schema.names)
    return tuple(known for known in KNOWN_COLUMNS if known not in present)


@lru_cache(maxsize=2048)
def _near_miss(name: str, absent: tuple[str, ...]) -> str | None:
    """The known column that an extra's name is probably meant to be, if the manifest lacks it."""
    if name in KNOWN_COLUMNS or len(name) > LONGEST_NAME:
        return None
    plain = name.strip().lower()
    swapped = [known for known in absent if sorted(known) == sorted(plain)]
    near = swapped or difflib.get_close_matches(plain, absent, n=1, cutoff=NEAR_MISS)
    return near[0] if near else None
