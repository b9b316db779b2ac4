"""What the rows of a set come to, column by column, in memory that hardly grows with the rows."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stylebatch.recipe import FIELDS, usual_history

MOST_VALUES = 10_000
"""Different values of a column that are counted; of numbers beyond, only the range is known."""


@dataclass
class Values:
    """The values of one column. Nulls are counted, and otherwise left out."""

    counts: Counter[Hashable] = field(default_factory=Counter)
    """How often each value was there, up to :data:`MOST_VALUES` of them."""
    is_complete: bool = True
    """Whether every value is counted."""
    nulls: int = 0
    """How many there are."""
    low: float = math.inf
    """The smallest number."""
    high: float = -math.inf
    """The largest."""

    def add(self, value: Any) -> None:
        """One more value; a list counts as a whole."""
        if value is None:
            self.nulls += 1
            return
        if isinstance(value, int | float):
            self.low, self.high = min(self.low, value), max(self.high, value)
        key = _hashable(value)
        if key in self.counts or len(self.counts) < MOST_VALUES:
            self.counts[key] += 1
        else:
            self.is_complete = False

    def __bool__(self) -> bool:
        """Whether there are any but nulls."""
        return bool(self.counts)

    @property
    def above_zero(self) -> "Values":
        """The numbers above 0; the others count as nulls."""
        found = Values(is_complete=self.is_complete, nulls=self.nulls)
        for value, number in self.counts.items():
            if isinstance(value, int | float) and value > 0:
                found.counts[value] = number
                found.low, found.high = min(found.low, value), max(found.high, value)
            else:
                found.nulls += number
        return found

    @property
    def only(self) -> Any:
        """The one value that there is; None where there are others, or none."""
        return next(iter(self.counts)) if len(self.counts) == 1 else None


def _hashable(value: Any) -> Hashable:
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value


COUNTED = (
    *FIELDS,
    *("weights_sha256", "content_sha256", "loss", "loss_change", "clipped_fraction"),
    *("evaluations", "stop_reason", "device", "batch", "width", "height"),
    *("stylebatch_version", "torch_version"),
)
"""Columns whose values are gathered as they stand."""

BY_NAME = ("layer_residuals", "achieved")
"""Columns that hold numbers by name, each of which is gathered for itself."""

ASKED_BY = {
    "mean_luminance": "mean_luminance",
    "rms_contrast": "rms_contrast",
    "histogram_distance": "histogram",
    "spectrum_distance": "spectrum",
}
"""What ``achieved`` has, and the recipe's field that asks for it; the first two are in every row."""


class Gathered:
    """The rows of a set, as far as words about the set need them.

    ``columns`` has the values of the stimuli, that is of the rows that are ``ok``; ``named`` those of the
    columns that hold numbers by name, by column and name; of ``achieved`` only what was asked for.
    """

    def __init__(self) -> None:
        self.ok = 0
        self.failed: Counter[str] = Counter()
        """Failed pairs by kind of error."""
        self.kinds: Counter[str] = Counter()
        """Stimuli by what they were made of: ``transfer``, ``texture``, ``reconstruction``."""
        self.columns: defaultdict[str, Values] = defaultdict(Values)
        self.named: dict[str, defaultdict[str, Values]] = {name: defaultdict(Values) for name in BY_NAME}
        self.shapes: Counter[tuple[int, int]] = Counter()
        """Stimuli by width and height."""
        self.styles: set[str] = set()
        """SHA-256 of every style image."""
        self.balances = Values()
        """α/β, where β is not 0."""
        self.seeds = Values()
        """Seeds that something was drawn from."""
        self.histories = Values()
        """Curvature pairs that L-BFGS kept at the final size."""
        self.adjusted_clipped = Values()
        """Shares of values that an adjusted appearance left out of range."""
        self.style_counts: Counter[int] = Counter()
        """Stimuli by their number of style images."""

    @property
    def rows(self) -> int:
        """All rows."""
        return self.ok + self.failed.total()

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row."""
        if row["status"] != "ok":
            self.failed[str(row.get("error_type") or "unknown")] += 1
            return
        self.ok += 1
        for name in COUNTED:
            self.columns[name].add(row.get(name))
        for key, value in (row.get("layer_residuals") or {}).items():
            self.named["layer_residuals"][key].add(value)
        self._add_appearance(row)
        self._add_derived(row)

    def _add_appearance(self, row: Mapping[str, Any]) -> None:
        """What came of what was asked for; what a picture has by itself is nothing that was achieved."""
        for key, value in (row.get("achieved") or {}).items():
            if row.get(ASKED_BY.get(key, key)) is not None:
                self.named["achieved"][key].add(value)
        if any(row.get(name) is not None for name in ASKED_BY.values()):
            self.adjusted_clipped.add(row.get("adjusted_clipped_fraction"))

    def _add_derived(self, row: Mapping[str, Any]) -> None:
        styles = row.get("style") or []
        has_both = row.get("content") is not None and bool(styles)
        self.kinds["transfer" if has_both else "texture" if styles else "reconstruction"] += 1
        self.style_counts[len(styles)] += 1
        self.styles.update(row.get("style_sha256") or [])
        self.shapes[row["width"], row["height"]] += 1
        if row["style_weight"]:
            self.balances.add(row["content_weight"] / row["style_weight"])
        if row["start"] in ("noise", "scrambled"):
            self.seeds.add(row["seed"])
        if row["optimizer"] == "lbfgs":
            self.histories.add(row["history"] or usual_history(row["height"], row["width"]))
