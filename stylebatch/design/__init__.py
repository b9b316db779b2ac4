"""Manifests that this project makes itself: the demo's."""

from stylebatch.design.demo import DEMO_PAIRS, DEMO_RECIPE, DemoPair, demo_table, write_demo

__all__ = ["DEMO_PAIRS", "DEMO_RECIPE", "DemoPair", "demo_table", "write_demo"]
