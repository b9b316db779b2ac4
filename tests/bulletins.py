"""What a driver told, for tests that read it."""

from stylebatch.job.bulletin import Bulletin, FailureKind, Telling, WorkerNote

BULLETIN = Bulletin(
    holder="abc",
    host="head",
    process=17,
    since="2025-11-28T10:00:00+00:00",
    written="2025-11-28T11:00:00+00:00",
    telling=Telling.RUNNING,
    reason="",
    rows=1000,
    ok=240,
    failed=10,
    new=50,
    pairs_per_hour=100.5,
    seconds_left=27000.0,
    failures=(FailureKind("PictureError", 10, ("p1: it is empty",)),),
    workers=3,
    stages={"synthesizing": 2, "idle": 1},
    listed=(WorkerNote("spot-1", 4, "cuda", "synthesizing", 2, ("p7", "p8"), 12, 500),),
    notices=("a worker is replaced",),
)
