"""A short run of ``benchmarks/faults.py``: kills of all kinds and storage that fails, and nothing is lost."""

from pathlib import Path

import pytest
from faulttrial import Plan, Target, run_trial
from s3server import S3Server


@pytest.mark.timeout(480)
def test_jobs_come_through_kills_and_faults(s3_server: S3Server, tmp_path: Path) -> None:
    plan = Plan(seed=1, kills=10, minutes=5, pairs=18, gap=(0.0, 2.0))

    report = run_trial(plan, s3_server, tmp_path)

    assert report.problems == [], "\n".join(report.problems)
    assert report.kills.total() >= plan.kills
    assert all(report.kills[target] for target in Target)
    assert report.recomputed <= report.in_flight
