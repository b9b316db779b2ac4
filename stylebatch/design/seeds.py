"""Every random choice of a design, drawn by hashing what it is for.

A generator gives its numbers in turn, so that one more level would change every seed after it. Here a number
depends on nothing but the design's seed and the names that it is for, on every machine and in every version.
"""

import hashlib
import json
from collections.abc import Iterable


def draw(*names: str | int) -> int:
    """A whole number from 0 to 2**63 - 1.

    Args:
        names: The design's seed, what the number is for, and for which cell, image or participant.

    Returns:
        The first 63 bits of the SHA-256 of the names as JSON.
    """
    digest = hashlib.sha256(json.dumps(names, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def shuffled(items: Iterable[str], *names: str | int) -> list[str]:
    """The items in an order drawn for these names; whoever else is among them, two keep their order."""
    return sorted(items, key=lambda item: (draw(*names, item), item))
