"""One value of a design file and where it stands there, so that what is wrong is said with both."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.errors import DesignError
from stylebatch.quoting import MAX_QUOTED, quoted, shown

REQUIRED = object()
"""Stands for the default of a key that must be there."""

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


@dataclass(frozen=True)
class Entry:
    """A value as YAML read it."""

    path: str
    """Such as ``factors.size.small``; empty for the file itself."""
    value: Any

    def refusal(self, allowed: str) -> DesignError:
        """The error that says what is allowed here instead."""
        return DesignError(f"{self.path} is {shown(self.value)}; it must be {allowed}")

    def named(self, allowed: str) -> dict[str, "Entry"]:
        """The values of a mapping that is not empty, by name."""
        if not isinstance(self.value, dict) or not self.value:
            raise self.refusal(allowed)
        return {name: self._below(name, value) for name, value in self.value.items()}

    def listed(self, allowed: str) -> list["Entry"]:
        """The values of a list, which may be empty."""
        if not isinstance(self.value, list):
            raise self.refusal(allowed)
        return [Entry(f"{self.path}[{i}]", value) for i, value in enumerate(self.value)]

    def keys(self, known: Mapping[str, Any]) -> dict[str, "Entry"]:
        """The values of a mapping with these keys.

        Args:
            known: Each key's default, or :data:`REQUIRED`.

        Returns:
            A value for each known key.
        """
        place = self.path or "a design"
        if not isinstance(self.value, dict):
            raise self.refusal(f"a mapping with the keys {', '.join(known)}")
        for name in self.value:
            if name not in known:
                raise DesignError(
                    f"{place} has no key {quoted(name)}{suggestion(name, known)}; its keys are "
                    f"{', '.join(known)}"
                )
        for name, default in known.items():
            if default is REQUIRED and name not in self.value:
                raise DesignError(f"{place} must have the key {name}; its keys are {', '.join(known)}")
        return {name: self._below(name, self.value.get(name, default)) for name, default in known.items()}

    def whole(self, low: int, high: int, note: str = "") -> int:
        """A whole number within bounds."""
        is_whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        if not is_whole or not low <= self.value <= high:
            raise self.refusal(f"a whole number from {low} to {high}{note}")
        return int(self.value)

    def choice(self, *options: str) -> str:
        """One of a few texts."""
        if not isinstance(self.value, str) or self.value not in options:
            raise self.refusal(f"one of {', '.join(options)}")
        return self.value

    def matching(self, pattern: re.Pattern[str], allowed: str) -> str:
        """A text of a certain form."""
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            raise self.refusal(allowed)
        return self.value

    def _below(self, name: str, value: Any) -> "Entry":
        shown_name = name if _PLAIN.fullmatch(name) else quoted(name)
        return Entry(f"{self.path}.{shown_name}" if self.path else shown_name, value)


def suggestion(name: str, known: Iterable[str]) -> str:
    """``(did you mean ...?)``, if a known name is near."""
    near = difflib.get_close_matches(name[:MAX_QUOTED], known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
