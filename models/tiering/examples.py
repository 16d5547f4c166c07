"""Small problems to start from: they are printed by ``quartermaster example tiering NAME``."""

from __future__ import annotations

from models.tiering.offload import Memory, Setting, Transformer, offload_problem
from models.tiering.schema import (
    Compression,
    CurrentCopy,
    GoalName,
    Migration,
    Object,
    Problem,
    Read,
    Reader,
    SiteLink,
    Tier,
)


def examples() -> dict[str, Problem]:
    """Every example by name; the first is the usual one."""
    return {"training": training(), "two_tier": two_tier(), "archive": archive(), "offload": offload()}


def training() -> Problem:
    """Datasets, checkpoints and a token cache on local flash, a disk array and an object store, read from two sites."""
    return Problem(
        goals=(GoalName.access_time, GoalName.cost, GoalName.moved_gib),
        tiers=_training_tiers(),
        objects=_training_objects(),
        readers=_training_readers(),
        site_links=(
            SiteLink(source="cloud", target="north", gbps=100, stream_gbps=2, latency_ms=12, usd_per_gib=0.01),
            SiteLink(source="cloud", target="south", gbps=50, stream_gbps=2, latency_ms=20, usd_per_gib=0.01),
            SiteLink(source="north", target="south", gbps=20, stream_gbps=5, latency_ms=45, usd_per_gib=0.02),
        ),
        compression=Compression(latency_ms=1.5),
        migration=Migration(gib=60_000),
        budget_usd=9_000,
    )


def _training_tiers() -> tuple[Tier, ...]:
    """Flash at both sites, disk at one, and an object store elsewhere."""
    return (
        Tier(
            id="nvme-north",
            site="north",
            region="eu",
            capacity_gib=30_000,
            read_gbps=400,
            write_gbps=200,
            stream_gbps=40,
            latency_ms=0.1,
            usd_per_gib_month=0.09,
            protections=("encrypted",),
            accelerators=("h100",),
        ),
        Tier(
            id="disk-north",
            site="north",
            failure_domain="hall-2",
            region="eu",
            capacity_gib=400_000,
            read_gbps=80,
            write_gbps=40,
            stream_gbps=4,
            latency_ms=9,
            usd_per_gib_month=0.018,
            protections=("encrypted", "audited"),
        ),
        Tier(
            id="nvme-south",
            site="south",
            region="us",
            capacity_gib=20_000,
            read_gbps=200,
            write_gbps=100,
            stream_gbps=40,
            latency_ms=0.1,
            usd_per_gib_month=0.09,
        ),
        Tier(
            id="object-store",
            site="cloud",
            region="eu",
            capacity_gib=None,
            stream_gbps=2,
            latency_ms=40,
            usd_per_gib_month=0.021,
            usd_per_1000_reads=0.0004,
            usd_per_1000_writes=0.005,
            usd_per_gib_read=0.01,
            protections=("encrypted", "audited"),
        ),
    )


def _training_objects() -> tuple[Object, ...]:
    """What the jobs read and write."""
    return (
        Object(id="web-text", size_gib=18_000, copies_max=2, compressed_share=0.45, current=(CurrentCopy(tier="disk-north"),)),
        Object(id="code", size_gib=6_000, copies_max=2, current=(CurrentCopy(tier="object-store"),)),
        Object(id="images", size_gib=25_000, copies_max=2, regions=("eu",), current=(CurrentCopy(tier="object-store"),)),
        Object(id="checkpoints", size_gib=12_000, write_gbps=6, replicas=2, current=(CurrentCopy(tier="disk-north"),)),
        Object(
            id="patients",
            size_gib=3_000,
            regions=("eu",),
            protections=("encrypted", "audited"),
            minimum_stay_days=90,
            current=(CurrentCopy(tier="disk-north", stored_days=40),),
        ),
        Object(id="token-cache", size_gib=4_000, read_gbps=5, reads_per_s=300, latency_limit_ms=2),
    )


def _training_readers() -> tuple[Reader, ...]:
    """Two jobs in the north, one in the south."""
    return (
        Reader(
            id="pretrain",
            site="north",
            accelerator="h100",
            reads=(
                Read(object="web-text", read_gbps=24, reads_per_s=400),
                Read(object="code", read_gbps=8, reads_per_s=200),
                Read(object="images", read_gbps=10, reads_per_s=150),
            ),
        ),
        Reader(id="finetune", site="south", reads=(Read(object="code", read_gbps=6, reads_per_s=120),)),
        Reader(id="study", site="north", reads=(Read(object="patients", read_gbps=1, reads_per_s=20),)),
    )


def two_tier() -> Problem:
    """Flash and disk, and three objects of which flash holds two: the page works it out by hand."""
    return Problem(
        goals=(GoalName.access_time, GoalName.cost),
        period_days=365 / 12,
        tiers=(
            Tier(id="ssd", capacity_gib=100, read_gbps=16, stream_gbps=16, latency_ms=0.1, usd_per_gib_month=0.1),
            Tier(id="hdd", capacity_gib=1000, read_gbps=8, stream_gbps=2, latency_ms=10, usd_per_gib_month=0.02),
        ),
        objects=(
            Object(id="a", size_gib=60, read_gbps=0.8, reads_per_s=5),
            Object(id="b", size_gib=40, read_gbps=0.1, reads_per_s=40),
            Object(id="c", size_gib=50, read_gbps=0.4, reads_per_s=10),
        ),
    )


def archive() -> Problem:
    """Old data on standard, cool and frozen storage: minimum durations, compression, and a budget for what moves this month."""
    return Problem(
        goals=(GoalName.cost,),
        tiers=(
            Tier(id="standard", capacity_gib=None, usd_per_gib_month=0.023, usd_per_1000_reads=0.0004, latency_ms=30, stream_gbps=2),
            Tier(
                id="cool",
                capacity_gib=None,
                usd_per_gib_month=0.0125,
                usd_per_1000_reads=0.001,
                usd_per_gib_read=0.01,
                usd_per_gib_written=0.0005,
                minimum_days=30,
                latency_ms=30,
                stream_gbps=2,
            ),
            Tier(
                id="frozen",
                capacity_gib=12_000,
                usd_per_gib_month=0.0036,
                usd_per_1000_reads=0.1,
                usd_per_gib_read=0.02,
                usd_per_gib_written=0.002,
                minimum_days=180,
                latency_ms=4.32e7,
                stream_gbps=1,
            ),
        ),
        objects=(
            Object(id="logs-2023", size_gib=40_000, compressed_share=0.2, current=(CurrentCopy(tier="standard"),)),
            Object(id="logs-2024", size_gib=35_000, compressed_share=0.2, read_gbps=0.02, current=(CurrentCopy(tier="standard"),)),
            Object(id="model-v1", size_gib=9_000, current=(CurrentCopy(tier="cool", stored_days=12),)),
            Object(id="raw-video", size_gib=30_000, latency_limit_ms=1000, current=(CurrentCopy(tier="standard"),)),
            Object(id="scratch", size_gib=8_000, lifetime_days=20, current=(CurrentCopy(tier="standard", stored_days=3),)),
            Object(id="run-17", size_gib=5_000, lifetime_days=45),
        ),
        compression=Compression(latency_ms=5, usd_per_gib=0.001),
        migration=Migration(usd=250),
    )


def offload() -> Problem:
    """A model with 30 thousand million parameters on one small GPU: which layers and caches stay on it, in host memory, on disk."""
    return offload_problem(
        Setting(
            model=Transformer(layers=48, hidden=7168),
            batch=32,
            sequence=1024,
            gpu=Memory(capacity_gib=16, to_gpu_gbps=2_400),
            host=Memory(capacity_gib=64, to_gpu_gbps=96),
            disk=Memory(capacity_gib=1_000, to_gpu_gbps=16),
            gpu_tflops=65,
        )
    )
