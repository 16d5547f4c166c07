"""The Problem and Plan of a tiering: objects and tiers in, copies and who reads which out. README.md has the maths.

Sizes are in GiB, rates in Gbit/s (1 GiB is 8.589934592 Gbit), latencies in ms, prices in USD. Many objects may come as a table, one tuple
for each column.
"""

from __future__ import annotations

from collections.abc import Sized
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError
from models.tiering.checks import errors
from models.vocabulary import Document, Id, PositiveCount, PositiveQuantity, Quantity

Share = Annotated[float, Field(gt=0, le=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # computed, not given: a sum over few bytes may be worth more than any Quantity
Ids = tuple[Id, ...]
ReaderName = Annotated[str, Field(max_length=253, description="A reader; empty: the object's own reads.")]


class GoalName(StrEnum):
    """What a tiering can be best in."""

    cost = "cost"
    access_time = "access_time"
    moved_gib = "moved_gib"


class Rule(StrEnum):
    """The names of what a plan obeys."""

    replica_count = "replica_count"
    failure_domain = "failure_domain"
    residency = "residency"
    protection = "protection"
    latency_limit = "latency_limit"
    minimum_stay = "minimum_stay"
    compression = "compression"
    tier_capacity = "tier_capacity"
    read_bandwidth = "read_bandwidth"
    write_bandwidth = "write_bandwidth"
    site_bandwidth = "site_bandwidth"
    reader_served = "reader_served"
    migration_volume = "migration_volume"
    migration_budget = "migration_budget"
    cost_budget = "cost_budget"


class Tier(Document):
    """A place that keeps data."""

    id: Id
    site: Id = Field(default="site", description="Where it stands: readers of the same site reach it without a site link.")
    failure_domain: Id | None = Field(default=None, description="What it fails with; left out: it fails alone.")
    region: Id | None = Field(default=None, description="For residency.")
    capacity_gib: Quantity | None = Field(description="GiB it can hold of this problem's objects; null: no limit.")
    read_gbps: Quantity | None = Field(default=None, description="Gbit/s it reads for all together; null: no limit.")
    write_gbps: Quantity | None = Field(default=None, description="Gbit/s it writes for all together; null: no limit.")
    stream_gbps: PositiveQuantity | None = Field(
        default=None, description="Gbit/s of one read; left out: read_gbps; null both: bytes take no time."
    )
    latency_ms: Quantity = Field(default=0.0, description="Until the first byte of a read.")
    usd_per_gib_month: Quantity = Field(default=0.0, description="USD for a GiB stored for a month of 365/12 days.")
    usd_per_1000_reads: Quantity = Field(default=0.0, description="USD for 1,000 read requests.")
    usd_per_1000_writes: Quantity = Field(default=0.0, description="USD for 1,000 write requests.")
    usd_per_gib_read: Quantity = Field(default=0.0, description="USD for each GiB read, compressed bytes of a compressed copy.")
    usd_per_gib_written: Quantity = Field(default=0.0, description="USD for each GiB written, by writers and by moves.")
    minimum_days: Quantity = Field(default=0.0, description="Storage is paid for at least so long; what leaves earlier pays for the rest.")
    protections: Ids = Field(default=(), description="What it offers, for example encrypted, audited.")
    accelerators: Ids = Field(default=(), description="Accelerators that read it directly: readers on them need no site link.")


class CurrentCopy(Document):
    """Where a copy is now."""

    tier: Id
    compressed: bool = False
    stored_days: Quantity = Field(default=1e6, description="How long it has been there; left out: long enough for every minimum.")


class Object(Document):
    """Data that is kept whole: a dataset, a shard, a checkpoint."""

    id: Id
    size_gib: PositiveQuantity
    read_gbps: Quantity = Field(default=0.0, description="Mean rate at which it is read, beside what readers read.")
    reads_per_s: Quantity = Field(default=0.0, description="Read requests per second, beside those of readers.")
    write_gbps: Quantity = Field(default=0.0, description="Mean rate at which it is rewritten; every copy is.")
    writes_per_s: Quantity = 0.0
    latency_limit_ms: PositiveQuantity | None = Field(
        default=None, description="Every copy, and every way to a reader, answers within this."
    )
    replicas: PositiveCount = Field(default=1, description="Copies wanted in different failure domains.")
    copies_max: PositiveCount | None = Field(default=None, description="Copies allowed, caches included; left out: as many as replicas.")
    regions: Ids | None = Field(default=None, description="Where copies may be; left out: anywhere.")
    protections: Ids = Field(default=(), description="What each tier that has a copy must offer.")
    compressed_share: Share | None = Field(default=None, description="Size when compressed, as a share; left out: it is never compressed.")
    minimum_stay_days: Quantity = Field(default=0.0, description="No copy leaves its tier before it has been there so long.")
    lifetime_days: PositiveQuantity | None = Field(default=None, description="When it will be deleted; left out: after every minimum.")
    current: tuple[CurrentCopy, ...] = Field(default=(), description="Where it is now; nothing: it is new, and writing it is no move.")


class ObjectTable(Document):
    """Objects as columns, for very many: every column has one item for each object. Columns left out have the defaults."""

    id: Ids | None = Field(default=None, description="Left out: o0, o1, o2, ...")
    size_gib: tuple[PositiveQuantity, ...]
    read_gbps: tuple[Quantity, ...] | None = None
    reads_per_s: tuple[Quantity, ...] | None = None
    write_gbps: tuple[Quantity, ...] | None = None
    writes_per_s: tuple[Quantity, ...] | None = None
    latency_limit_ms: tuple[PositiveQuantity | None, ...] | None = Field(default=None, description="In ms; null: no limit.")
    replicas: tuple[PositiveCount, ...] | None = None
    copies_max: tuple[PositiveCount | None, ...] | None = Field(default=None, description="Null: as many as replicas.")
    regions: tuple[Ids | None, ...] | None = None
    protections: tuple[Ids, ...] | None = None
    compressed_share: tuple[Share | None, ...] | None = Field(default=None, description="Null: it is never compressed.")
    minimum_stay_days: tuple[Quantity, ...] | None = Field(default=None, description="In days.")
    lifetime_days: tuple[PositiveQuantity | None, ...] | None = Field(default=None, description="In days; null: after every minimum.")
    current_tier: tuple[Id | None, ...] | None = Field(default=None, description="The tier of the one current copy, if any; it is plain.")
    current_days: tuple[Quantity, ...] | None = Field(default=None, description="Days that it has been there.")


class Read(Document):
    """What a reader reads of one object."""

    object: Id
    read_gbps: Quantity = 0.0
    reads_per_s: Quantity = 0.0


class Reader(Document):
    """A job that reads objects from where it runs."""

    id: Id
    site: Id
    accelerator: Id | None = Field(default=None, description="The accelerator it runs on: tiers attached to it are read directly.")
    reads: tuple[Read, ...] = Field(min_length=1)


class SiteLink(Document):
    """A way from the site of a tier to the site of a reader. Where there is none, that tier cannot serve that reader."""

    source: Id
    target: Id
    gbps: Quantity | None = Field(default=None, description="Gbit/s for all together; null: no limit.")
    stream_gbps: PositiveQuantity | None = Field(default=None, description="Gbit/s of one read; left out: gbps.")
    latency_ms: Quantity = Field(default=0.0, description="Added to that of the tier.")
    usd_per_gib: Quantity = Field(default=0.0, description="USD for each GiB that it carries.")


class Compression(Document):
    """What a read of a compressed copy takes beside reading fewer bytes."""

    latency_ms: Quantity = Field(default=0.0, description="Added to each read of a compressed copy.")
    usd_per_gib: Quantity = Field(default=0.0, description="USD for each GiB read, counted uncompressed.")


class Migration(Document):
    """What may move in this period: GiB of copies, of objects that exist now, where there is none now in that form."""

    gib: Quantity | None = Field(default=None, description="GiB that may move; null: no limit.")
    usd: Quantity | None = Field(
        default=None, description="USD for reading the source, writing the target and leaving early; null: no limit."
    )


class Problem(Document):
    """Objects to keep on tiers for one period."""

    schema_version: Literal[1] = 1
    goals: tuple[GoalName, ...] = Field(default=(GoalName.cost,), min_length=1, description="What counts, the most important first.")
    period_days: PositiveQuantity = Field(default=365 / 12, description="Length of the period; a month is 365/12 days.")
    tiers: tuple[Tier, ...] = Field(min_length=1)
    objects: tuple[Object, ...] = ()
    object_table: ObjectTable | None = Field(default=None, description="In place of ``objects``.")
    readers: tuple[Reader, ...] = ()
    site_links: tuple[SiteLink, ...] = ()
    compression: Compression = Compression()
    migration: Migration = Migration()
    budget_usd: Quantity | None = Field(default=None, description="Most that the period may cost.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(errors(self))
        return self

    def ordered_goals(self) -> tuple[GoalName, ...]:
        """The goals, the most important first."""
        return self.goals


def _equal_lengths(**columns: Sized | None) -> None:
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns must be equally long: {', '.join(f'{name} has {length:,}' for name, length in lengths.items())}")


class Copies(Document):
    """Every copy, as columns."""

    object: Ids = ()
    tier: Ids = ()
    compressed: tuple[bool, ...] | None = Field(default=None, description="Left out: none is.")

    @model_validator(mode="after")
    def _equally_long(self) -> Self:
        _equal_lengths(object=self.object, tier=self.tier, compressed=self.compressed)
        return self


class Serving(Document):
    """Which copies serve which reads, as columns. All reads that are not mentioned come from the one copy that is best by the goals."""

    reader: tuple[ReaderName, ...] = ()
    object: Ids = ()
    tier: Ids = ()
    share: tuple[Share, ...] = Field(default=(), description="Share of the reader's reads of the object that the copy on the tier serves.")

    @model_validator(mode="after")
    def _equally_long(self) -> Self:
        _equal_lengths(reader=self.reader, object=self.object, tier=self.tier, share=self.share)
        return self


class TierPrice(Document):
    """What one more unit of a tier's limit is worth to the first goal, for the whole period."""

    rule: Literal[Rule.tier_capacity, Rule.read_bandwidth, Rule.write_bandwidth]
    tier: Id
    price: Price = Field(description="In the unit of the first goal, for one more GiB or Gbit/s.")


class Plan(Document):
    """The copies after this period's moves, who reads which, and the prices of full tiers where they were worked out."""

    schema_version: Literal[1] = 1
    copies: Copies = Copies()
    serving: Serving = Serving()
    prices: tuple[TierPrice, ...] = ()


def example() -> Problem:
    """A small case: see ``examples``."""
    from models.tiering.examples import training

    return training()
