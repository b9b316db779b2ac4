"""Manifests that this project makes: the demo's, those of the paper's figures, and of stimulus sets."""

from stylebatch.design.demo import DEMO_PAIRS, DEMO_RECIPE, DemoPair, demo_table, write_demo, write_sources
from stylebatch.design.figures import figure1, figure2, figure3, ready_figures, with_fields

__all__ = [
    "DEMO_PAIRS",
    "DEMO_RECIPE",
    "DemoPair",
    "demo_table",
    "figure1",
    "figure2",
    "figure3",
    "ready_figures",
    "with_fields",
    "write_demo",
    "write_sources",
]
