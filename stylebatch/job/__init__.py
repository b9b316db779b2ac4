"""A job: its identity, its lease, what an output says has ended, and the book of units that are worked on."""

from stylebatch.job.book import Tally, UnitBook
from stylebatch.job.history import committed_row
from stylebatch.job.identity import DEFAULT_UNIT_SIZE, Job
from stylebatch.job.lease import Lease
from stylebatch.job.merging import Merging, merge_at_end, merge_output
from stylebatch.job.opening import OpenedOutput, TakenOutput, open_output, take_output
from stylebatch.job.pending import pending_tasks
from stylebatch.job.publishing import publish_part, publish_success, store_failure
from stylebatch.job.shapes import READERS, RunPlan, ShapeReader, batch_group, plan_run

__all__ = [
    "DEFAULT_UNIT_SIZE",
    "READERS",
    "Job",
    "Lease",
    "Merging",
    "OpenedOutput",
    "RunPlan",
    "ShapeReader",
    "TakenOutput",
    "Tally",
    "UnitBook",
    "batch_group",
    "committed_row",
    "merge_at_end",
    "merge_output",
    "open_output",
    "pending_tasks",
    "plan_run",
    "publish_part",
    "publish_success",
    "store_failure",
    "take_output",
]
