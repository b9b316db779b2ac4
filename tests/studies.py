"""A small study: pictures in a store in memory, and a design over them that tests change."""

from typing import Any

from inmemory import MemoryStore, picture_bytes

from stylebatch.design.design_file import parse_design
from stylebatch.design.stimuli import StimulusSet, make_stimuli

FOLDER = "s3://bucket/study"
SIZES = {"cat.png": (60, 40), "boat.png": (50, 50), "wave.png": (40, 40), "scream.png": (48, 36)}


def study() -> MemoryStore:
    """A store with the study's four pictures."""
    pictures = enumerate(SIZES.items())
    return MemoryStore({f"{FOLDER}/{name}": picture_bytes(*size, seed) for seed, (name, size) in pictures})


def design(**changes: Any) -> dict[str, Any]:
    """What YAML makes of a design file, with some keys changed."""
    usual = {
        "name": "study-1",
        "seed": 7,
        "recipe": {"size": 64, "iterations": 3},
        "factors": factors(),
    }
    return usual | changes


def factors(**more: Any) -> dict[str, Any]:
    """Two contents and two styles, and more."""
    return {
        "content": {"cat": "cat.png", "boat": "boat.png"},
        "style": ["wave.png", "scream.png"],
        **more,
    }


def make(**changes: Any) -> StimulusSet:
    """The set of such a design."""
    return make_stimuli(study(), parse_design(design(**changes), FOLDER))
