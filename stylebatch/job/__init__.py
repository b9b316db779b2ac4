"""A job: its identity, the ledger of what is finished, and the book of units that are being worked on."""

from stylebatch.job.book import Tally, UnitBook
from stylebatch.job.identity import DEFAULT_UNIT_SIZE, Job, claim_output
from stylebatch.job.ledger import (
    committed_row,
    finished_units,
    pending_tasks,
    publish_part,
    publish_success,
    store_failure,
    tally_finished,
)
from stylebatch.job.shapes import READERS, RunPlan, ShapeReader, batch_group, plan_run

__all__ = [
    "DEFAULT_UNIT_SIZE",
    "READERS",
    "Job",
    "RunPlan",
    "ShapeReader",
    "Tally",
    "UnitBook",
    "batch_group",
    "claim_output",
    "committed_row",
    "finished_units",
    "pending_tasks",
    "plan_run",
    "publish_part",
    "publish_success",
    "store_failure",
    "tally_finished",
]
