"""Arrays as Slurm takes them: many tasks in one line, and a task without a record of its own is split off by what is done to it alone."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from service.plugins.slurm.notation import task_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from service.plugins.slurm.reading import Read


def array_of(job: str) -> str:
    """The array of a task, the job itself where it is none."""
    return job.partition("_")[0]


def grouped(jobs: Iterable[str]) -> dict[str, list[str]]:
    """Names for scontrol, each with the ids that it stands for: the tasks of one array are one name, ``12_[1-5,9]``.

    For each name scontrol asks for the whole array: a name for each task would take time with the square of their number.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        found[array_of(job)].append(job)
    return {_name(array, members): members for array, members in found.items()}


def _name(array: str, members: Sequence[str]) -> str:
    return members[0] if len(members) == 1 else f"{array}_[{_ranges(sorted(int(job.partition('_')[2]) for job in members))}]"


def _ranges(numbers: Sequence[int]) -> str:
    """``1-5,9``."""
    breaks = [at for at, (low, high) in enumerate(pairwise(numbers), start=1) if high != low + 1]
    runs = [(numbers[start], numbers[end - 1]) for start, end in zip([0, *breaks], [*breaks, len(numbers)], strict=True)]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def members(name: str) -> list[str]:
    """The tasks that a name of ``grouped`` stands for; the name itself where it is one job."""
    array, _, listed = name.partition("_")
    return [f"{array}_{task}" for task in task_ids(listed)[0]] if listed.startswith("[") else [name]


def units(jobs: Sequence[str], found: Read, also: Iterable[str] = ()) -> dict[str, list[str]]:
    """As ``grouped``, for what is let go of: an array of which all goes that was read is named by its id alone.

    Then the tasks beyond those that are planned at a time go with it, and none is split off. Not so where a person holds one of
    its tasks, or one that does not go (with ``jobs`` or ``also``) has a pin of ours: what is told to an array is told to all of it.
    """
    going, unsplit = {*jobs, *also}, defaultdict(list)
    for job in found.of_array:
        unsplit[array_of(job)].append(job)
    pinned = {array_of(job) for job in found.pins if job not in going}
    whole = {array for array, tasks in unsplit.items() if going.issuperset(tasks)} - found.by_hand - pinned
    return {array_of(name) if array_of(name) in whole else name: ids for name, ids in grouped(jobs).items()}
