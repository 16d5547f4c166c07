"""The benchmark of what-if studies: what was promised of them, each line measured against what one would do without.

``python -m benchmarks run studies``. All that a line compares is measured in one run of it, so that its ratios hold on any machine.
"""

from __future__ import annotations

from functools import partial

from benchmarks import studies_engines, studies_linear
from benchmarks.lines import Line
from benchmarks.studies_certified import certified
from benchmarks.studies_kills import kills
from benchmarks.studies_linear import Sizes
from benchmarks.studies_placement import placement
from benchmarks.suite import Target

FAST = (Target("faster_than_fresh", "at least", 10.0), Target("times_bare", "at most", 3.0))
RIGHT = (Target("unverified", "at most", 0), Target("largest_difference", "at most", 1e-6))

LINES = (
    Line(
        "fairness-10000x6",
        "100 scenarios, other counts of 6 accelerators for 10,000 jobs; fresh: Pyomo and its HiGHS in 2 processes, by 20 of them; bare: "
        "hot HiGHS in 1 process, by 6 of them",
        # Fresh models take 5 s each, and a bare hot solve of the whole program more than that: a sample of them is measured.
        partial(studies_linear.linear, name="fairness", sizes=Sizes(fresh=20, bare=6)),
        (*FAST, *RIGHT),
    ),
    Line(
        "tiering-10000x6",
        "100 scenarios, other capacities of 4 tiers for 10,000 objects, as a linear program; fresh and bare as above, by 32 and 50 of them",
        partial(studies_linear.tiering, sizes=Sizes(fresh=32, bare=50)),
        (*FAST, *RIGHT),
    ),
    Line(
        "placement-openb",
        "100 scenarios of openb with up to 64 nodes added, lost at random or by the rack; cold: from scratch, by 12 of them",
        placement,
        (
            Target("faster_than_cold", "at least", 3.0),
            Target("less_cpu_than_cold", "at least", 3.0),
            Target("unverified", "at most", 0),
            Target("short_of_gap", "at most", 0),
        ),
    ),
    Line(
        "pool-1-2",
        "204 scenarios of about 0.3 s by one local worker and by two; steady: without the start of processes",
        studies_engines.pool,
        (Target("speedup", "at least", 1.8), Target("steady_speedup", "at least", 1.8), Target("unverified", "at most", 0)),
    ),
    Line(
        "ray-overhead",
        "milliseconds of a scenario beyond its row's own, tiny ones; with plans of 10,000 jobs: beyond what a local worker needs",
        studies_engines.ray,
        (
            Target("tiny_ray_overhead_ms", "at most", 15.0),
            Target("large_beyond_local_ms", "at most", 15.0),
            Target("unverified", "at most", 0),
        ),
    ),
    Line(
        "certified",
        "200 random pairs of knapsacks with known optima, stopped anywhere, compared both ways",
        certified,
        (Target("pairs", "at least", 200), Target("certain", "at least", 100), Target("false_claims", "at most", 0)),
    ),
    Line(
        "kills",
        "kill -9 of 8 workers, and of the study itself 6 times, at random moments",
        kills,
        (
            Target("workers_killed", "at least", 1),
            Target("studies_killed", "at least", 1),
            Target("lost", "at most", 0),
            Target("repeated", "at most", 0),
            Target("rows_different", "at most", 0),
            Target("orphans", "at most", 0),
        ),
    ),
)
