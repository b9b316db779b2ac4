"""How a run looks to who started it."""

import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console, RenderableType

from stylebatch.cluster.progress import Progress, WorkerProgress
from stylebatch.display import (
    MOST_SHAPES,
    activity_text,
    closing_lines,
    count,
    duration,
    live_view,
    plan_lines,
    progress_line,
    rate,
)
from stylebatch.job import RunPlan, Tally
from stylebatch.work import Activity

BUSY = Activity("synthesizing", ("cat--night-1a2b", "dog--night-3c4d", "owl--night-5e6f"), 120, 500)


def worker(activity: Activity, host: str = "spot-3", device: str = "cuda") -> WorkerProgress:
    return WorkerProgress(host, 4711, device, activity)


def progress(**changes: Any) -> Progress:
    values = {"total": 1000, "ok": 240, "failed": 10, "new": 50, "seconds": 1800.0, "workers": ()}
    return Progress(**{**values, **changes})  # type: ignore[arg-type]


def rendered(view: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(view)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (18_420, "5 h 07 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [
        (0, "pair", "0 pairs"),
        (1, "pair", "1 pair"),
        (2, "pair", "2 pairs"),
        (1, "batch", "1 batch"),
        (3, "batch", "3 batches"),
    ],
)
def test_things_are_counted(number: int, thing: str, text: str) -> None:
    assert count(number, thing) == text


class TestProgress:
    def test_rate_and_time_left(self) -> None:
        state = progress()
        assert state.pairs_per_hour == 100
        assert state.seconds_left == 750 * 36

    @pytest.mark.parametrize("changes", [{"new": 0}, {"seconds": 0.0}])
    def test_before_the_first_picture_there_is_none(self, changes: dict[str, Any]) -> None:
        state = progress(**changes)
        assert (state.pairs_per_hour, state.seconds_left) == (None, None)

    def test_the_line(self) -> None:
        line = progress_line(
            progress(workers=(worker(BUSY), worker(Activity()), worker(Activity("starting"))))
        )
        assert line == (
            "250/1000 done, 10 failed, 101 pairs/h, 7 h 23 min left | "
            "cat--night-1a2b and 2 more (120/500); idle; starting"
        )

    def test_the_line_before_the_first_picture(self) -> None:
        line = progress_line(progress(ok=0, failed=0, new=0, seconds=0.0, workers=(worker(Activity()),)))
        assert line == "0/1000 done, 0 failed | idle"

    def test_the_line_of_a_run_that_is_over(self) -> None:
        assert "0 s left" in progress_line(progress(ok=990))

    def test_what_a_worker_does(self) -> None:
        assert activity_text(Activity("loading weights", ("a",))) == "loading weights"
        assert activity_text(Activity("synthesizing", ("a",), 3, 9)) == "a (3/9)"


class TestLiveView:
    def test_it_shows_the_state_and_every_worker(self) -> None:
        view = live_view(progress(workers=(worker(BUSY), worker(Activity("starting"), "", ""))))
        text = rendered(view)
        for part in ("250 of 1000 pairs", "10 failed", "101 pairs/h", "7 h 23 min left"):
            assert part in text
        first, second = (line for line in text.splitlines() if "worker" in line)
        assert "worker 1" in first
        assert "spot-3" in first
        assert "cat--night-1a2b and 2 more (120/500)" in first
        assert "worker 2" in second
        assert "starting" in second

    def test_it_stands_before_anything_is_known(self) -> None:
        text = rendered(live_view(progress(total=1, ok=0, failed=0, new=0, seconds=0.0)))
        assert "0 of 1 pair" in text
        assert "failed" not in text

    def test_names_are_no_markup(self) -> None:
        odd = Activity("synthesizing", ("[red]x[/red]", "y"), 1, 2)
        assert "[red]x[/red] and 1 more" in rendered(live_view(progress(workers=(worker(odd),))))


class TestClosingLines:
    @staticmethod
    def failed(tally: Tally, kind: str, number: int) -> None:
        for i in range(number):
            row = {"pair_id": f"p{i}", "status": "failed", "error_type": kind, "error": f"no good {i}"}
            tally.count(row, is_new=True)

    def test_failures_are_grouped_by_error_the_most_frequent_first(self) -> None:
        tally = Tally(ok=88)
        self.failed(tally, "NotFoundError", 2)
        self.failed(tally, "PictureError", 10)
        assert list(closing_lines(tally, 100, "s3://bucket/out")) == [
            "88 of 100 pairs ok, 12 failed.",
            "  10 x PictureError:",
            "    p0: no good 0",
            "    p1: no good 1",
            "    p2: no good 2",
            "    ... and 7 more",
            "  2 x NotFoundError:",
            "    p0: no good 0",
            "    p1: no good 1",
            "Pictures: s3://bucket/out/images",
            "Table:    s3://bucket/out/results (Parquet; status, losses, hashes and errors of every row)",
        ]

    def test_exactly_as_many_as_are_shown_leave_nothing_more(self) -> None:
        tally = Tally()
        self.failed(tally, "PictureError", 3)
        assert "more" not in "\n".join(closing_lines(tally, 3, "/out"))

    def test_a_run_without_failures(self) -> None:
        lines = list(closing_lines(Tally(ok=1), 1, "/out"))
        assert lines[0] == "1 of 1 pair ok, 0 failed."
        assert len(lines) == 3

    def test_what_an_earlier_run_did_is_told_apart(self) -> None:
        first = next(closing_lines(Tally(ok=9, failed=1, skipped=4), 10, "/out"))
        assert first.startswith("9 of 10 pairs ok, 1 failed")
        assert "4" in first
        assert "before this run" in first


class TestPlanLines:
    def test_a_plan_in_full(self) -> None:
        shapes = Counter({(512, 384): 30, (384, 512): 1})
        plan = RunPlan(31, shapes, 3, 16, 3 * 2**30, ())
        assert list(plan_lines(plan, 31)) == [
            "31 pairs: every row is valid.",
            "  30 pictures of 512 x 384",
            "  1 picture of 384 x 512",
            "  3 batches, the largest of 16 pictures",
            "  about 3.0 GB of memory in each CPU worker",
        ]

    def test_a_plan_of_the_first_pairs_says_so(self) -> None:
        plan = RunPlan(2000, Counter({(64, 64): 2000}), 125, 16, 2**30, ())
        assert list(plan_lines(plan, 90_000))[:2] == [
            "90000 pairs: every row is valid.",
            "Of the first 2000:",
        ]

    def test_many_shapes_are_cut_short(self) -> None:
        shapes = Counter({(512, 300 + i): 1 for i in range(MOST_SHAPES + 5)})
        lines = list(plan_lines(RunPlan(len(shapes), shapes, len(shapes), 1, 2**30, ()), len(shapes)))
        assert "  ... and 5 more shapes" in lines
        assert sum("1 picture of" in line for line in lines) == MOST_SHAPES

    def test_pairs_that_would_fail_are_named(self) -> None:
        plan = RunPlan(1, Counter(), 0, 0, 0, ("p0: /a.png: nothing is there",))
        assert list(plan_lines(plan, 1)) == [
            "1 pair: every row is valid.",
            "  1 pair would fail:",
            "    p0: /a.png: nothing is there",
        ]

    def test_what_is_cut_short_is_said(self) -> None:
        reasons = tuple(f"p{i}: gone" for i in range(MOST_SHAPES + 4))
        lines = list(plan_lines(RunPlan(len(reasons), Counter(), 0, 0, 0, reasons), len(reasons)))
        assert f"  {len(reasons)} pairs would fail:" in lines
        assert "... and 4 more" in lines[-1]


@pytest.mark.parametrize(
    ("per_hour", "text"), [(0.427, "0.43 pairs/h"), (9.96, "10 pairs/h"), (240.4, "240 pairs/h")]
)
def test_slow_rates_are_told_apart(per_hour: float, text: str) -> None:
    assert rate(per_hour, "pair") == text
