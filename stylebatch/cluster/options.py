"""How a job is run: nothing here changes what a picture looks like."""

from dataclasses import dataclass

from stylebatch.cluster.scaling import WorkerLimits
from stylebatch.pictures import DEFAULT_MAX_PIXELS

DEFAULT_STALL_TIMEOUT = 600.0
DEFAULT_CHECKPOINT_SECONDS = 60.0
DEFAULT_GRACE = 30.0


@dataclass(frozen=True)
class RunOptions:
    """What :func:`stylebatch.cluster.driver.run_job` may be told."""

    workers: int | WorkerLimits | None = None
    """How many, or from how many to how many; None is one for each GPU, or by the processor's cores, and more
    as machines join a cluster."""
    gpus_per_worker: float = 1.0
    """Where GPUs do the work; below 1, workers share one."""
    address: str | None = None
    """A Ray cluster; None starts Ray on this machine."""
    device: str = "auto"
    """``gpu``, ``cpu``, or ``auto``: GPUs if Ray has any."""
    largest_batch: int | None = None
    """The most pictures in one forward pass; None decides by size and memory."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Of a source image; a larger one fails its pair before it is decoded."""
    stall_timeout: float = DEFAULT_STALL_TIMEOUT
    """Seconds without any progress after which a worker is replaced."""
    checkpoint_seconds: float = DEFAULT_CHECKPOINT_SECONDS
    """Seconds of synthesis between two checkpoints of a pair."""
    grace: float = DEFAULT_GRACE
    """Seconds that running batches have to finish when a run is asked to end."""
    restart: bool = False
    """Throw away what the output holds and start over."""
    retry_failed: bool = False
    """Run the rows again that failed."""
    merge: bool = True
    """Merge the parts of results into a few files at the end, where that is worth it."""
    metrics: bool | None = None
    """Whether what happens is counted for Prometheus; None: in a cluster it is, in a Ray of one's own not."""

    @property
    def has_metrics(self) -> bool:
        """Whether what happens is counted."""
        return self.address is not None if self.metrics is None else self.metrics


DEFAULT_OPTIONS = RunOptions()
"""What is used where nothing is said."""
