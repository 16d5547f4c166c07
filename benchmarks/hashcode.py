"""Google Hash Code 2017, "Streaming videos": copies of videos on caches, as a tiering.

Caches are tiers, the data centre is a tier without limit where every video must stay, endpoints are readers. One GiB of the tiering
stands for one MB of the file, and one read per second for one request. The score is the time saved by caches, in microseconds for
each request: what all requests would wait with the data centre alone, less ``access_time``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite import SHARED
from models.tiering.schema import CurrentCopy, GoalName, Object, Problem, Read, Reader, SiteLink, Tier

DATA = SHARED / "hashcode"  # its licence leaves open whether it may be copied
ME_AT_THE_ZOO = "v2017_me_at_the_zoo.in"
CENTRE = "datacenter"


@dataclass(frozen=True, slots=True)
class Streaming:
    """The problem, and what turns its access time into the score."""

    problem: Problem
    requests: int
    waiting_ms: float  # of all requests together, by the data centre alone

    def score(self, access_time: float) -> float:
        """Microseconds saved for each request, not rounded down; ``access_time`` in s/s as ``verify`` gives it."""
        return (self.waiting_ms - 1000.0 * access_time) * 1000.0 / self.requests


def read(path: Path) -> Streaming:
    """Read a file of the contest. Videos nobody asks for are left out, and requests of one video by one endpoint are added up.

    Raises OSError when the file cannot be read, ValueError when it is no such file.
    """
    numbers = iter([int(word) for word in path.read_text(encoding="ascii").split()])
    try:
        videos, endpoints, descriptions, caches, capacity = (next(numbers) for _ in range(5))
        sizes = [next(numbers) for _ in range(videos)]
        centre_ms: list[int] = []
        links: list[SiteLink] = []
        for endpoint in range(endpoints):
            centre_ms.append(next(numbers))
            links.append(SiteLink(source=CENTRE, target=_endpoint(endpoint), latency_ms=centre_ms[-1]))
            for _ in range(next(numbers)):
                cache, latency_ms = next(numbers), next(numbers)
                links.append(SiteLink(source=_cache(cache), target=_endpoint(endpoint), latency_ms=latency_ms))
        asked: dict[tuple[int, int], int] = {}
        for _ in range(descriptions):
            video, endpoint, times = next(numbers), next(numbers), next(numbers)
            asked[endpoint, video] = asked.get((endpoint, video), 0) + times
    except (StopIteration, RuntimeError) as error:
        raise ValueError(f"{path.name} ends too early") from error
    return Streaming(
        problem=Problem(
            goals=(GoalName.access_time,),
            tiers=(Tier(id=CENTRE, site=CENTRE, capacity_gib=None), *(_tier(cache, capacity) for cache in range(caches))),
            objects=tuple(_object(video, sizes[video], caches) for video in sorted({video for _, video in asked})),
            readers=tuple(_reader(endpoint, asked) for endpoint in sorted({endpoint for endpoint, _ in asked})),
            site_links=tuple(links),
        ),
        requests=sum(asked.values()),
        waiting_ms=float(sum(times * centre_ms[endpoint] for (endpoint, _), times in asked.items())),
    )


def _cache(number: int) -> str:
    return f"cache-{number}"


def _endpoint(number: int) -> str:
    return f"endpoint-{number}"


def _tier(cache: int, capacity: int) -> Tier:
    return Tier(id=_cache(cache), site=_cache(cache), capacity_gib=float(capacity))


def _object(video: int, size: int, caches: int) -> Object:
    here = (CurrentCopy(tier=CENTRE, stored_days=0.0),)
    return Object(id=f"video-{video}", size_gib=float(size), copies_max=1 + caches, minimum_stay_days=1.0, current=here)


def _reader(endpoint: int, asked: dict[tuple[int, int], int]) -> Reader:
    reads = tuple(
        Read(object=f"video-{video}", reads_per_s=float(times))
        for (by, video), times in sorted(asked.items())
        if by == endpoint and times > 0
    )
    return Reader(id=_endpoint(endpoint), site=_endpoint(endpoint), reads=reads)
