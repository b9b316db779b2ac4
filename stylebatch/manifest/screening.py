"""Which rows of a batch are surely right, found out for whole columns at once.

Looking at one row takes a hundred times as long as what is done here for each. So rows are screened first:
those that pass are right by every rule of :class:`~stylebatch.manifest.rows.PairMaker`; the others are
doubtful, and are looked at one by one, which also finds the words for what is wrong with them. Screening is
only a shortcut: a right row may be doubtful, a wrong one never passes.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from stylebatch.errors import StorageError
from stylebatch.manifest.identity import SAFE_ID
from stylebatch.manifest.rows import (
    Indices,
    PairMaker,
    distinct_indices,
    read_rows,
    recipe_columns,
    values_of,
)
from stylebatch.manifest.schema import is_text
from stylebatch.objectstore import MAX_URI_LENGTH, join_uri, resolve_uri
from stylebatch.recipe import MOST_STYLES, field_rule

Verdicts = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""For each row, or text, whether it passes."""
Codes = np.ndarray[tuple[int], np.dtype[np.int64]]
"""For each row a number; rows with the same one are alike."""

_NAME = r"[A-Za-z0-9_+,()' =-][A-Za-z0-9_+,()' =.-]*"
_RELATIVE = rf"\A{_NAME}(?:/{_NAME})*\z"
_ABSOLUTE = rf"\A(?:/{_NAME})+\z"
_ON_S3 = rf"\As3://[A-Za-z0-9][A-Za-z0-9._-]{{1,61}}[A-Za-z0-9](?:/{_NAME})+\z"
"""Plain locations, in which nothing has to be resolved: no empty name, none that begins with a dot or ~, no
character that means something in a URI or that could hide credentials."""
_SYSTEM = r"\A/(?:proc|sys)"
ABSENT, ZERO, ORDINARY, STRANGE = range(4)
"""What matters of a number, if its field's rule accepts every number between two bounds: whether there is
one, whether it is 0, and whether it is within the bounds."""


class Screen:
    """Tells rows that are surely right from those that are to be looked at one by one.

    Args:
        maker: Looks at one row of each kind.
        folder: Canonical URI that the manifest's relative URIs start from.
    """

    def __init__(self, maker: PairMaker, folder: str) -> None:
        self._maker = maker
        self._plain = rf"{_ABSOLUTE}|{_ON_S3}"
        if _is_plain_folder(folder):
            self._plain += f"|{_RELATIVE}"
        self._longest = MAX_URI_LENGTH - len(folder) - 1

    def doubtful(self, batch: pa.RecordBatch) -> Indices:
        """The places of the rows that are to be looked at.

        Args:
            batch: Rows with columns of the types that the schema check allows.

        Raises:
            ValueError: A text column has bytes that are not UTF-8.
        """
        pair_ids, contents, styles = (_column(batch, name) for name in ("pair_id", "content", "style"))
        has_styles, style_counts = self._styles(styles)
        passes = _texts(pair_ids, _are_safe_ids) & _texts(contents, self._are_plain) & has_styles
        kinds = [_as_codes(contents.is_valid()), style_counts]
        for name in recipe_columns(batch.schema.names):
            codes, is_known = _recipe_codes(name, batch.column(name))
            passes &= is_known
            kinds.append(codes)
        return np.flatnonzero(~self._settled(batch, passes, _joint(kinds)))

    def _are_plain(self, texts: pa.Array) -> Verdicts:
        """Whether each text is a location that can surely be resolved."""
        is_plain = pc.and_(
            pc.match_substring_regex(texts, self._plain),
            pc.and_(
                pc.less_equal(pc.binary_length(texts), self._longest),
                pc.invert(pc.match_substring_regex(texts, _SYSTEM)),
            ),
        )
        return _as_verdicts(is_plain)

    def _styles(self, column: pa.Array) -> tuple[Verdicts, Codes]:
        """Whether each row's styles are plain locations, and how many there are."""
        if is_text(column.type):
            return _texts(column, self._are_plain), _as_codes(column.is_valid())
        if not (types.is_list(column.type) or types.is_large_list(column.type)):
            nothing = np.zeros(len(column), np.int64)  # of a fixed size: rare, and left to the other way
            return nothing.astype(np.bool_), nothing
        counts = _as_codes(pc.list_value_length(column))
        styles = column.flatten()
        is_plain = _texts(styles, self._are_plain) & _as_verdicts(styles.is_valid())
        rows = np.repeat(np.arange(len(column)), counts)
        strange = np.bincount(rows[~is_plain], minlength=len(column))
        return (strange == 0) & (counts <= MOST_STYLES), counts

    def _settled(self, batch: pa.RecordBatch, passes: Verdicts, kinds: Codes) -> Verdicts:
        """Of the rows that pass, those whose recipe columns and images go together.

        Of each kind of row one is looked at.
        """
        candidates = np.flatnonzero(passes)
        _, firsts, members = np.unique(kinds[candidates], return_index=True, return_inverse=True)
        order = np.argsort(firsts)  # in order of row, so that recipes are made in the manifest's order
        fits = np.zeros(len(firsts), np.bool_)
        for kind, row in zip(order, read_rows(batch, 0, candidates[firsts[order]]), strict=True):
            fits[kind] = self._maker.settings_fit(row)
        passes[candidates] = fits[members]
        return passes


def _is_plain_folder(folder: str) -> bool:
    """Whether whatever is plain below this folder can be resolved."""
    try:
        return folder != "/" and resolve_uri("picture", folder) == join_uri(folder, "picture")
    except StorageError:
        return False


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of a batch; nulls where there is none of this name."""
    return batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows)


def _as_verdicts(values: pa.Array) -> Verdicts:
    """Truth values; null is False."""
    verdicts: Verdicts = values.fill_null(False).to_numpy(zero_copy_only=False)
    return verdicts


def _as_codes(values: pa.Array) -> Codes:
    """Whole numbers or truth values; null is 0."""
    codes: Codes = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return codes


def _are_safe_ids(texts: pa.Array) -> Verdicts:
    return _as_verdicts(pc.match_substring_regex(texts, rf"\A{SAFE_ID}\z"))


def _texts(column: pa.Array, judge: Callable[[pa.Array], Verdicts]) -> Verdicts:
    """The verdict on each text, null passes; of a dictionary, on each entry that is used."""
    if types.is_null(column.type):
        return np.ones(len(column), np.bool_)
    if types.is_dictionary(column.type):
        used, places = distinct_indices(column)
        entries = column.dictionary.take(pa.array(used))
        return np.append(_texts(entries, judge) & _as_verdicts(entries.is_valid()), True)[places]
    return judge(column) | ~_as_verdicts(column.is_valid())


def _recipe_codes(name: str, column: pa.Array) -> tuple[Codes, Verdicts]:
    """What matters of a recipe column's values, and whether that is known."""
    if types.is_null(column.type):
        return np.zeros(len(column), np.int64), np.ones(len(column), np.bool_)
    bounds = field_rule(name).bounds
    codes = _value_codes(column) if bounds is None else _number_codes(column, *bounds)
    return codes, np.ones(len(column), np.bool_) if bounds is None else codes != STRANGE


def _number_codes(column: pa.Array, low: float, high: float) -> Codes:
    """:data:`ABSENT`, :data:`ZERO`, :data:`ORDINARY` or :data:`STRANGE`.

    A recipe looks no closer at how numbers of different fields go together.
    """
    kind = column.type
    plain = pa.uint64() if types.is_uint64(kind) else pa.int64() if types.is_integer(kind) else pa.float64()
    numbers = column.cast(plain).fill_null(0).to_numpy(zero_copy_only=False)
    is_within = (low <= numbers) & (numbers <= high)
    codes = np.where(is_within, np.where(numbers == 0, ZERO, ORDINARY), STRANGE)
    return np.where(_as_verdicts(column.is_valid()), codes, ABSENT)


def _value_codes(column: pa.Array) -> Codes:
    """Equal numbers for equal values."""
    numbers: dict[object, int] = {}
    return np.fromiter(
        (numbers.setdefault(value, len(numbers)) for value in values_of(column)), np.int64, len(column)
    )


def _joint(columns: list[Codes]) -> Codes:
    """Equal numbers for rows that have equal numbers in every column."""
    joint = columns[0]
    for codes in columns[1:]:
        if (codes == codes[:1]).all():
            continue
        _, joint = np.unique(joint * (codes.max(initial=0) + 1) + codes, return_inverse=True)
    return joint
