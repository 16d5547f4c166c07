"""The promises of the service, and how each is measured."""

from __future__ import annotations

from functools import partial

from benchmarks.lines import Line
from benchmarks.service import bad, chaos, measures, soak
from benchmarks.suite import Target

LINES = (
    Line(
        "latency",
        "added by HTTP, database and child process to a small warm solve",
        partial(measures.added_latency, requests=400),
        (Target("added_p50_ms", "at most", 25.0), Target("added_p99_ms", "at most", 100.0)),
    ),
    Line(
        "throughput",
        "tiny linear programs, 16 clients that wait for each answer, all stored",
        partial(measures.throughput, solves=1_500),
        (Target("solves_per_s", "at least", 60.0), Target("not_succeeded", "at most", 0), Target("wrong", "at most", 0)),
    ),
    Line(
        "intake",
        "requests stored in the queue, 16 clients; then kill -9 and a restart with that queue",
        partial(measures.intake, requests=9_100),
        (
            Target("accepted_per_s", "at least", 400.0),
            Target("p99_ms", "at most", 100.0),
            Target("queued_at_restart", "at least", 9_900.0),
            Target("restart_s", "at most", 5.0),
            Target("wrong", "at most", 0),
        ),
    ),
    Line(
        "bad-requests",
        "generated, each wrong in another way",
        partial(bad.bad_requests, requests=10_000),
        (
            Target("not_4xx_problem_json", "at most", 0),
            Target("answered_5xx", "at most", 0),
            Target("runs_stored", "at most", 0),
            Target("runs_worked_on", "at most", 0),
        ),
    ),
    Line(
        "kills",
        "kill -9 of children, workers and the API at random moments",
        partial(chaos.kills, runs=500, wanted=200),
        (
            Target("runs", "at least", 500),
            Target("kills", "at least", 200),
            Target("lost", "at most", 0),
            Target("doubled", "at most", 0),
            Target("unverified", "at most", 0),
        ),
    ),
    Line(
        "deadlines",
        "runs with limits of 1 to 5 s: some stuck in presolve, some infeasible",
        partial(measures.deadlines, runs=1_000),
        (
            Target("runs", "at least", 1_000),
            Target("late_p99_s", "at most", 1.0),
            Target("without_times", "at most", 0),
            Target("wrong", "at most", 0),
        ),
    ),
    Line(
        "cancels",
        "searches that sit in presolve are cancelled",
        partial(measures.cancels, runs=40),
        (Target("answer_max_s", "at most", 2.0), Target("not_over", "at most", 0), Target("wrong", "at most", 0)),
    ),
    Line(
        "soak",
        "20 minutes of mixed load",
        partial(soak.soak, seconds=1_200.0),
        (
            Target("memory_growth", "at most", 0.10),
            Target("descriptors_left", "at most", 0),
            Target("processes_left", "at most", 0),
            Target("wrong", "at most", 0),
        ),
    ),
)
