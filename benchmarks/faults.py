"""Jobs that are killed again and again, over storage that fails again and again, lose and double nothing.

Jobs of 60 small pairs run on a Ray cluster of two nodes and a SeaweedFS server, both in this machine. SIGKILL
hits the driver, a worker process or a whole node at random moments; the same command is started again after
each death of the driver. A proxy before the server injects faults into 10 % of the S3 requests: 503, resets
before and after the request is done (the lost acknowledgement), answers cut in half, stalls. Pairs run alone
in every other job, up to four in a batch in the rest. Every finished output is judged from its objects alone.

    python benchmarks/faults.py --kills 100 --seed 1

prints a table and exits with 1 if any claim does not hold. Needs the extra ``test``.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faulttraffic import Fault
from faulttrial import Plan, Report, Target, run_trial
from s3server import running_s3_server


def table(report: Report) -> Iterator[str]:
    """The report as Markdown."""
    kills = ", ".join(f"{target} {report.kills[target]}" for target in Target)
    faults = ", ".join(f"{fault} {report.faults[fault]}" for fault in Fault)
    share = report.faults.total() / max(1, report.requests.total())
    rows = {
        "jobs run to their end": report.jobs,
        "pairs": report.pairs,
        "kills": f"{report.kills.total()} ({kills})",
        "S3 requests": report.requests.total(),
        "faults": f"{report.faults.total()}, {share:.1%} ({faults})",
        "pairs computed more than once": report.recomputed,
        "pairs in flight at the kills": report.in_flight,
        "pairs lost": report.lost,
        "time": f"{report.seconds / 60:.1f} min",
    }
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def parse_plan() -> Plan:
    """The trial that the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="at least so many (default: 100)")
    parser.add_argument("--seed", type=int, help="of kills and faults (default: any; it is printed)")
    parser.add_argument("--minutes", type=float, default=45, help="start no job after these (default: 45)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    return Plan(seed=seed, kills=options.kills, minutes=options.minutes)


def main() -> int:
    """Run the trial and print what came of it; 1 if a claim does not hold."""
    plan = parse_plan()
    print(f"seed {plan.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, running_s3_server() as server:
        report = run_trial(plan, server, Path(folder), say=lambda line: print(line, flush=True))
    print(*table(report), sep="\n")
    print(*report.problems or ["Every claim holds."], sep="\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
