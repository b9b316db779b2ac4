"""What is counted for Prometheus, and that Ray's endpoint and the dashboard know it by the same names."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stylebatch.cluster.events import BatchEnded, Notice, PairEnded
from stylebatch.cluster.metrics import GAUGE_SECONDS, MEASURES, STAGES, Measure, Metrics, RayMetrics
from stylebatch.cluster.progress import Progress, WorkerProgress
from stylebatch.work import Activity, Spent

DASHBOARD = Path(__file__).parents[2] / "docs" / "clusters" / "grafana-dashboard.json"
OK = PairEnded("p0", 0, 0, "ok", 1, 7.5, 190, 5, 1, None, None)
FAILED = PairEnded("p1", 1, 0, "failed", 1, None, 0, 0, 0, "PictureError", "it is empty")
SPENT = Spent(1.5, 20.0, 0.5, 1000, 300)
WORKERS = (
    WorkerProgress("spot", 1, "cuda", Activity()),
    WorkerProgress("spot", 2, "cuda", Activity()),
    WorkerProgress("", 0, "", Activity("starting")),
)


class Board:
    """Stands for Ray's metrics: adds up counters, keeps the last value of gauges."""

    def __init__(self) -> None:
        self.values: Counter[str] = Counter()
        self.settings = 0

    def __call__(self, measure: Measure, value: float, labels: Mapping[str, str]) -> None:
        assert labels.keys() == {"output", *measure.labels}
        assert labels["output"] == "s3://bucket/out"
        key = " ".join([measure.name, *(labels[name] for name in measure.labels)])
        if measure.is_counter:
            self.values[key] += value  # type: ignore[assignment]
        else:
            self.values[key] = value  # type: ignore[assignment]
            self.settings += 1


def test_pairs_and_what_they_took_are_counted() -> None:
    board = Board()
    metrics = Metrics("s3://bucket/out", board)
    for event in (OK, OK, FAILED, BatchEnded(("p0",), SPENT), BatchEnded(("p1",), SPENT), Notice("not this")):
        metrics.tell(event)
    assert dict(board.values) == {
        "stylebatch_pairs ok": 2,
        "stylebatch_pairs failed": 1,
        "stylebatch_evaluations": 380,
        "stylebatch_targets hit": 10,
        "stylebatch_targets miss": 2,
        "stylebatch_stage_seconds fetch": 3.0,
        "stylebatch_stage_seconds synthesize": 40.0,
        "stylebatch_stage_seconds publish": 1.0,
        "stylebatch_read_bytes": 2000,
        "stylebatch_written_bytes": 600,
    }


def test_gauges_show_the_last_look_once_a_second() -> None:
    board, now = Board(), [0.0]
    metrics = Metrics("s3://bucket/out", board, lambda: now[0])
    metrics.observe(Progress(10, 3, 1, 3, 1.0, WORKERS))
    metrics.observe(Progress(10, 4, 1, 4, 1.0, WORKERS))
    assert board.settings == 3
    assert dict(board.values) == {
        "stylebatch_workers ready": 2,
        "stylebatch_workers starting": 1,
        "stylebatch_pairs_left": 6,
    }
    now[0] = GAUGE_SECONDS
    metrics.observe(Progress(10, 8, 1, 8, 1.0, WORKERS[:1]))
    assert board.values["stylebatch_pairs_left"] == 1
    assert metrics.observe(Progress(10, 9, 1, 9, 1.0, WORKERS[:1])) == []
    assert dict(board.values) == {
        "stylebatch_workers ready": 1,
        "stylebatch_workers starting": 0,
        "stylebatch_pairs_left": 0,
    }


def test_names_are_as_prometheus_wants_them() -> None:
    for measure in MEASURES:
        assert re.fullmatch(r"stylebatch_[a-z]+(_[a-z]+)*", measure.name)
        assert not measure.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert measure.description
    assert {name for name in Spent.__dataclass_fields__ if name.endswith("_seconds")} == {*STAGES.values()}


def test_without_ray_nothing_is_noted() -> None:
    RayMetrics()(MEASURES[0], 1.0, {"output": "o", "status": "ok"})


def queries(found: Any) -> list[str]:
    """Every query of a dashboard, of panels and variables."""
    if isinstance(found, dict):
        own = [found[name] for name in ("expr", "query") if isinstance(found.get(name), str)]
        return own + [query for value in found.values() for query in queries(value)]
    return [query for value in found for query in queries(value)] if isinstance(found, list) else []


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def test_the_dashboard_asks_for_what_there_is_and_for_all_of_it(dashboard: dict[str, Any]) -> None:
    asked = {name for query in queries(dashboard) for name in re.findall(r"\b\w*stylebatch\w*", query)}
    assert asked == {measure.exported_name for measure in MEASURES}


def test_the_dashboard_asks_for_labels_that_there_are(dashboard: dict[str, Any]) -> None:
    measures = {measure.exported_name: measure for measure in MEASURES}
    selectors = [
        (measures[name], labels)
        for query in queries(dashboard)
        for name, labels in re.findall(r"(ray_stylebatch_\w+)\{([^}]*)\}", query)
    ]
    assert len(selectors) >= len(MEASURES)
    for measure, labels in selectors:
        named = set(re.findall(r"(\w+)=", labels))
        assert "output" in named
        assert named <= {"output", *measure.labels}


def test_the_dashboard_s_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (place["x"] + column, place["y"] + line)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["w"])
        for line in range(place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24


def test_every_metric_is_documented() -> None:
    text = (DASHBOARD.parents[1] / "operating.md").read_text()
    documented = dict(re.findall(r"^\| `(ray_stylebatch_\w+)` \| ([^|]*)\|", text, re.MULTILINE))
    assert documented.keys() == {measure.exported_name for measure in MEASURES}
    for measure in MEASURES:
        labels = re.findall(r"`(\w+)`:", documented[measure.exported_name])
        assert tuple(labels) == measure.labels
