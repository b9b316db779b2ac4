"""From Parquet values to a :class:`Row` as written, then to a :class:`Pair` or what is wrong with it."""

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from stylebatch.errors import RecipeError, StorageError
from stylebatch.manifest.identity import default_pair_id, pair_id_problem
from stylebatch.manifest.schema import is_list, is_text
from stylebatch.objectstore import MAX_URI_LENGTH, resolve_uri
from stylebatch.pairs import LOCATION_FIELDS, Pair, resolve_locations
from stylebatch.recipe import FIELDS, MOST_STYLES, Recipe

REMEMBERED = 16_384
"""Recipes, and resolved URIs, that are kept for the rows that follow."""

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Places in a batch, or in a dictionary."""


class Row(NamedTuple):
    """One row as the manifest has it."""

    number: int
    """0-based row over the whole manifest."""
    pair_id: str | None
    """None: the default id."""
    content: str | None
    """The content's URI as written."""
    styles: tuple[str | None, ...]
    """The styles' URIs as written; a null inside a list is a problem."""
    overrides: tuple[Any, ...]
    """A value for each recipe column that the manifest has, in the order of the recipe's fields."""


def recipe_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """The recipe fields among these columns, in the order of the recipe's fields."""
    present = frozenset(columns)
    return tuple(name for name in FIELDS if name in present)


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with ordinary texts in place of string views, of which pyarrow cannot pick some."""
    columns = [column.cast(_without_view(column.type)) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _without_view(data_type: pa.DataType) -> pa.DataType:
    if types.is_string_view(data_type):
        return pa.large_string()
    is_plain_list = types.is_list(data_type) and types.is_string_view(data_type.value_type)
    return pa.list_(pa.large_string()) if is_plain_list else data_type


def read_rows(batch: pa.RecordBatch, first_row: int, places: Indices | None = None) -> Iterator[Row]:
    """The rows of a batch of known columns, or some of them.

    Args:
        batch: Rows with columns of the types that the schema check allows.
        first_row: The number of the batch's first row.
        places: Of those that are wanted within the batch; None is all.

    Raises:
        ValueError: A text column has bytes that are not UTF-8.
    """
    numbers: Iterable[int] = itertools.count(first_row)
    if places is not None:
        batch, numbers = batch.take(pa.array(places)), (first_row + places).tolist()
    nulls = [None] * batch.num_rows
    names = batch.schema.names
    values = {name: values_of(batch.column(i)) for i, name in enumerate(names)}
    overrides = [values[name] for name in recipe_columns(names)]
    return map(
        Row,
        numbers,
        values.get("pair_id", nulls),
        values.get("content", nulls),
        map(_as_styles, values.get("style", nulls)),
        zip(*overrides, strict=True) if overrides else itertools.repeat(()),
    )


def values_of(column: pa.Array) -> list[Any]:
    """Python values, cut to lengths that are still refused; lists become tuples, which can be compared."""
    if types.is_floating(column.type):
        column = column.cast(pa.float64())  # a half float is no Python float
    if is_list(column.type):
        short = _cut(column, pc.list_value_length, pc.list_slice, MOST_STYLES + 1)
        return [None if value is None else tuple(value) for value in short.to_pylist()]
    if types.is_dictionary(column.type):
        return _dictionary_values(column)
    if is_text(column.type):
        column = _cut_texts(column)
    values: list[Any] = column.to_pylist()
    return values


def _dictionary_values(column: pa.DictionaryArray) -> list[Any]:
    """The values of a column of texts, each of which becomes a Python object once."""
    used, places = distinct_indices(column)
    texts = [*_cut_texts(column.dictionary.take(pa.array(used))).to_pylist(), None]
    return [texts[place] for place in places.tolist()]


def distinct_indices(column: pa.DictionaryArray) -> tuple[Indices, Indices]:
    """The dictionary's entries that a column uses, and for each row the place among them; -1 for null."""
    indices = column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = np.unique(indices, return_inverse=True)
    has_nulls = used.size > 0 and used[0] < 0
    return (used[1:], places - 1) if has_nulls else (used, places)


def _cut_texts(texts: pa.Array) -> pa.Array:
    if types.is_null(texts.type):
        return texts
    return _cut(texts, pc.binary_length, pc.utf8_slice_codeunits, MAX_URI_LENGTH + 1)


def _cut(
    values: pa.Array, length: Callable[..., pa.Array], cut: Callable[..., pa.Array], longest: int
) -> pa.Array:
    """The values, those that are longer cut short: one cell may hold more than all others together."""
    most = pc.max(length(values)).as_py() or 0
    return cut(values, 0, longest) if most > longest else values


def _as_styles(value: str | tuple[str | None, ...] | None) -> tuple[str | None, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a row's recipe columns come to, shared by all rows with the same values."""

    recipe: Recipe | None
    """None where there is a problem."""
    problem: str
    """What is wrong with the values, or ''."""


class PairMaker:
    """Turns rows into pairs. Rows with the same recipe columns share one recipe, which is built once."""

    def __init__(self, default: Recipe, folder: str, columns: Iterable[str]) -> None:
        """A maker for one pass over a manifest.

        Args:
            default: The job's recipe; its start is relative to the working directory.
            folder: Canonical URI that the manifest's relative URIs start from.
            columns: The known columns that are read.
        """
        self._default = resolve_locations(default)
        self._folder = folder
        self._columns = recipe_columns(columns)
        self._settings = functools.lru_cache(REMEMBERED)(self._settle)
        self._identity = functools.lru_cache(REMEMBERED)(self._identify)
        self._resolve = functools.lru_cache(REMEMBERED)(functools.partial(resolve_uri, base=folder))

    def pair_id(self, row: Row) -> str:
        """The row's id, which may be unsafe, or its default id."""
        if row.pair_id is not None:
            return row.pair_id
        return default_pair_id(row.content, row.styles, self._identity(row.overrides))

    def make(self, row: Row) -> Pair | list[str]:
        """The pair of a row, or every problem with it, one sentence each."""
        problems: list[str] = []
        pair_id = self.pair_id(row)
        if problem := pair_id_problem(pair_id):
            problems.append(problem)
        content = None if row.content is None else self._locate("content", row.content, problems)
        if len(row.styles) > MOST_STYLES:
            problems.append(f"style has more than {MOST_STYLES} images, the most that a pair can have")
        styles = tuple(self._locate("style", style, problems) for style in row.styles[:MOST_STYLES])
        settings = self._settings(row.overrides)
        if settings.recipe is None:
            problems.append(settings.problem)
        problems += _misfits(row, settings.recipe or self._default)
        if problems or settings.recipe is None:
            return problems
        return Pair(pair_id, row.number, content, styles, settings.recipe)

    def _locate(self, column: str, text: str | None, problems: list[str]) -> str:
        """The canonical URI; where there is none, '' and one more problem."""
        if text is None:
            problems.append(f"{column} is a list with a null in it; leave it out")
            return ""
        try:
            return self._resolve(text)
        except StorageError as error:
            problems.append(f"{column}: {error}")
            return ""

    def settings_fit(self, row: Row) -> bool:
        """Whether a row's recipe columns are right, and go together with as many images as it has."""
        recipe = self._settings(row.overrides).recipe
        return recipe is not None and next(_misfits(row, recipe), None) is None

    def _given(self, overrides: Sequence[Any]) -> dict[str, Any]:
        """The values of a row's recipe columns that are not null, by field."""
        return {
            name: value for name, value in zip(self._columns, overrides, strict=True) if value is not None
        }

    def _identify(self, overrides: Sequence[Any]) -> str:
        """The values that are given, as JSON."""
        return json.dumps(self._given(overrides), sort_keys=True)

    def _settle(self, overrides: Sequence[Any]) -> _Settings:
        given = self._given(overrides)
        try:
            recipe = self._default.replace(given)
            if not LOCATION_FIELDS.keys().isdisjoint(given):
                recipe = resolve_locations(recipe, self._folder)
        except RecipeError as error:
            return _Settings(None, str(error).removeprefix("recipe: "))
        except StorageError as error:
            return _Settings(None, str(error))
        return _Settings(recipe, "")


def _misfits(row: Row, recipe: Recipe) -> Iterator[str]:
    """What does not go together in a row."""
    if row.content is None:
        if not row.styles:
            yield "content and style are both null; give one of them"
        if recipe.start in ("content", "recoloured", "scrambled"):
            yield f"start is {recipe.start}, but content is null; give this row start noise, or a location"
        if row.styles and recipe.style_weight == 0:
            yield "content is null and style_weight is 0; nothing is left to minimise"
    elif not row.styles:
        if recipe.content_weight == 0:
            yield "style is null and content_weight is 0; nothing is left to minimise"
        if recipe.start == "recoloured":
            yield "start is recoloured, but style is null; give this row start content"
    for field in ("histogram", "spectrum"):
        if getattr(recipe, field) == "content" and row.content is None:
            yield f"{field} is content, but content is null; give this row another {field}"
        if getattr(recipe, field) == "style" and not row.styles:
            yield f"{field} is style, but style is null; give this row another {field}"
    if recipe.style_blend is not None and len(recipe.style_blend) != len(row.styles):
        yield (
            f"style_blend has {len(recipe.style_blend)} numbers for {len(row.styles)} styles; "
            "give one for each style"
        )
