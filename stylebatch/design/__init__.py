"""Manifests that this project makes: the demo's, and those of stimulus sets."""

from stylebatch.design.demo import DEMO_PAIRS, DEMO_RECIPE, DemoPair, demo_table, write_demo

__all__ = ["DEMO_PAIRS", "DEMO_RECIPE", "DemoPair", "demo_table", "write_demo"]
