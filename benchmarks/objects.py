"""Seeded tiering problems in table form: lognormal sizes, Zipf read rates, latency classes, replicas, regions, current places.

Prices of the cloud tiers are the list prices in shared/data/storage_prices/tiers.csv (a secondary source, see its SOURCE.md), as
plain numbers: USD for a GiB and month (both providers bill 2**30 bytes as a GB) and USD for 1,000 requests (the file has them for 10,000).
The S3-IA read price there, 0.0001 USD for 1,000, is out of line with its other request prices; 0.001 is used. Prices of the
cluster's own tiers are assumptions: what hardware and power cost when written off over some years.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.tiering.schema import GoalName, Migration, ObjectTable, Problem, Tier

Floats = npt.NDArray[np.floating]

MONTH_S = 365 / 12 * 86_400
MEDIAN_GIB, SPREAD = 2.0, 1.6  # of the lognormal sizes: mean about 7 GiB, the largest of a million some 4 TiB
ZIPF = 0.9
READ_EACH_S = 40.0  # for each 1,000 objects, read requests per second in all
PART_READ = 0.06  # of an object, by one request
LATENCIES_MS = (None, 5.0, 20.0, 200.0)
LATENCY_SHARES = (0.60, 0.10, 0.15, 0.15)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of tier: share of all GiB it can hold and of all reads it can serve (None: no limit), and its prices."""

    name: str
    holds: float | None
    reads: float | None
    writes: float | None
    latency_ms: float
    stream_gbps: float
    usd_month: float
    usd_1000_reads: float = 0.0
    usd_1000_writes: float = 0.0
    usd_read: float = 0.0
    minimum_days: float = 0.0
    region: str = "eu"


_NVME = _Kind("nvme", 0.05, 0.60, 0.5, 0.2, 25.0, 0.10)
_SSD = _Kind("ssd", 0.08, 0.35, 0.4, 1.0, 10.0, 0.05)
_HDD = _Kind("hdd", 0.35, 0.10, 0.2, 12.0, 2.0, 0.012)
_STANDARD = _Kind("s3-standard", None, None, None, 60.0, 1.0, 0.023, 0.0004, 0.005)
_INFREQUENT = _Kind("s3-ia", None, None, None, 60.0, 1.0, 0.0125, 0.001, 0.01, 0.01, 30.0)
_ARCHIVE = _Kind("glacier-flexible", None, None, None, 1.5e7, 1.0, 0.0036, 0.0004, 0.03, 0.01, 90.0)
_COLD = _Kind("azure-cold", None, None, None, 80.0, 1.0, 0.0036, 0.013, 0.0234, 0.03, 90.0, "us")
_FAR_HDD = _Kind("hdd-far", 0.20, 0.06, 0.1, 40.0, 2.0, 0.010, region="us")
KINDS = {5: (_NVME, _SSD, _HDD, _STANDARD, _INFREQUENT), 8: (_NVME, _SSD, _HDD, _STANDARD, _INFREQUENT, _ARCHIVE, _COLD, _FAR_HDD)}


def objects(count: int, tiers: int, seed: int, goals: tuple[GoalName, ...] = (GoalName.cost,)) -> Problem:
    """``count`` objects on 5 or 8 tiers; capacity, read and write bandwidth and the volume that may move all bind.

    The same arguments give the same Problem. Raises KeyError for another number of tiers.
    """
    rng = np.random.default_rng([count, tiers, seed])
    size: Floats = np.exp(rng.normal(np.log(MEDIAN_GIB), SPREAD, count))
    rank = rng.permutation(count) + 1.0
    per_s: Floats = rank**-ZIPF
    per_s *= READ_EACH_S * count / 1000 / per_s.sum()
    read_gbps = per_s * np.minimum(size * PART_READ, 0.25) * 8.589934592 * rng.uniform(0.3, 1.0, count)
    write_gbps = np.where(rng.random(count) < 0.2, read_gbps * rng.uniform(0.0, 0.4, count), 0.0)
    replicas = rng.choice([1, 2, 3], count, p=[0.82, 0.15, 0.03])
    kinds = KINDS[tiers]
    volume = float((size * replicas).sum())
    places = tuple(_tier(kind, volume, float(read_gbps.sum()), float((write_gbps * replicas).sum())) for kind in kinds)
    latency = np.array([np.nan if one is None else one for one in LATENCIES_MS], dtype=np.float64)[
        rng.choice(len(LATENCIES_MS), count, p=LATENCY_SHARES)
    ]
    latency = np.where(size > np.quantile(size, 0.9), np.nan, latency)  # what is largest can wait
    latency = np.where(replicas > 1, np.where(latency < 100, 200.0, latency), latency)  # copies in two places need two that are fast enough
    # Half of them new; the rest on hdd, s3-standard or s3-ia, as if nobody had thought about it.
    current = rng.choice([-1, 2, 3, 4], count, p=[0.5, 0.2, 0.2, 0.1])
    share = np.where(rng.random(count) < 0.3, rng.uniform(0.3, 0.9, count), np.nan)
    table = ObjectTable(
        size_gib=_rounded(size),
        read_gbps=_rounded(read_gbps),
        reads_per_s=_rounded(per_s),
        write_gbps=_rounded(write_gbps),
        writes_per_s=_rounded(write_gbps / 10),
        latency_limit_ms=_optional(latency),
        replicas=tuple(replicas.tolist()),
        regions=tuple(("eu",) if home else None for home in (rng.random(count) < 0.25).tolist()),
        compressed_share=_optional(np.round(share, 3)) if tiers > 5 else None,
        current_tier=tuple(None if place < 0 else kinds[place].name for place in current.tolist()),
        current_days=_rounded(rng.uniform(1.0, 400.0, count)),
    )
    return Problem(goals=goals, tiers=places, object_table=table, migration=Migration(gib=float(np.round(0.25 * volume, 3))))


def _tier(kind: _Kind, volume_gib: float, read_gbps: float, write_gbps: float) -> Tier:
    def part(share: float | None, whole: float) -> float | None:
        return None if share is None else float(f"{share * whole:.6g}")

    return Tier(
        id=kind.name,
        region=kind.region,
        capacity_gib=part(kind.holds, volume_gib),
        read_gbps=part(kind.reads, read_gbps),
        write_gbps=part(kind.writes, write_gbps),
        stream_gbps=kind.stream_gbps,
        latency_ms=kind.latency_ms,
        usd_per_gib_month=kind.usd_month,
        usd_per_1000_reads=kind.usd_1000_reads,
        usd_per_1000_writes=kind.usd_1000_writes,
        usd_per_gib_read=kind.usd_read,
        minimum_days=kind.minimum_days,
    )


def _rounded(values: Floats) -> tuple[float, ...]:
    """Six digits, so that the last bits of a logarithm do not make another problem."""
    digits = 5 - np.floor(np.log10(np.maximum(values, 1e-12))).astype(np.int64)
    scale = 10.0 ** np.clip(digits, -10, 17)
    return tuple((np.round(values * scale) / scale).tolist())


def _optional(values: Floats) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values.tolist())  # noqa: PLR0124  (NaN is none)
