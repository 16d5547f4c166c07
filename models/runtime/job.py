"""The description of a torch job whose runtime is predicted: its network, sizes, mode, optimiser and how it is spread over devices."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from models.contract import ContradictionError, Warned
from models.runtime.operators import Precision
from models.vocabulary import Count, Document, PositiveCount, Quantity


class Family(StrEnum):
    """Families of networks with closed-form work; ``traced`` jobs bring a ``Work`` counted from a torch module."""

    mlp = "mlp"
    cnn = "cnn"
    encoder = "encoder"
    decoder = "decoder"
    recommender = "recommender"
    lstm = "lstm"
    traced = "traced"


class Mode(StrEnum):
    """What a step is: a training step, one forward pass over a whole input, or one token more with a key-value cache."""

    train = "train"
    prefill = "prefill"
    decode = "decode"


class OptimizerName(StrEnum):
    """The update rule; ``sgd`` has no momentum. Adam and AdamW keep two moments per parameter, momentum keeps one."""

    sgd = "sgd"
    momentum = "momentum"
    adam = "adam"
    adamw = "adamw"

    @property
    def moments(self) -> int:
        """Numbers kept per parameter from step to step."""
        return {OptimizerName.sgd: 0, OptimizerName.momentum: 1}.get(self, 2)


class Weights(StrEnum):
    """How parameters are kept at a 2-byte precision.

    ``same``: in that precision, with gradients and moments. ``autocast``: in fp32, cast at each use (torch.autocast).
    ``master``: in 2 bytes, with a master copy and moments in fp32 (Rajbhandari et al., ZeRO, 2020). With fp32 all three are alike.
    """

    same = "same"
    autocast = "autocast"
    master = "master"


class Parallel(Document):
    """How one job is spread over dp * tp * pp devices; ``grad_accum`` micro-batches make one step (and fill the pipeline)."""

    dp: PositiveCount = Field(default=1, description="Data-parallel copies.")
    tp: PositiveCount = Field(default=1, description="Tensor-parallel shards of each layer.")
    pp: PositiveCount = Field(default=1, description="Pipeline stages.")
    grad_accum: PositiveCount = Field(default=1, description="Micro-batches per step.")

    @property
    def devices(self) -> int:
        """How many devices the job runs on."""
        return self.dp * self.tp * self.pp


class JobSpec(Document):
    """One job. ``batch`` is what one copy takes per micro-batch: a step sees batch * dp * grad_accum samples.

    Which fields count for a family, and what its network is: README.md, "Families". Fields of other families are ignored.
    ``prefill`` is one forward pass for every family; ``decode`` is for decoders: one token per sample with ``seq`` tokens in the cache.
    """

    schema_version: Literal[1] = 1
    id: str = Field(default="", max_length=253, description="A name for people; predictions do not depend on it.")
    family: Family
    mode: Mode = Mode.train
    precision: Precision = Precision.fp32
    weights: Weights = Weights.same
    optimizer: OptimizerName = OptimizerName.adamw
    steps: Count = Field(default=1, description="Training steps, forward passes or tokens per sample that the job runs.")
    batch: PositiveCount = Field(default=1, description="Samples of one copy in one micro-batch.")
    parameters: Quantity | None = Field(default=None, description="Number of parameters, for people; closed forms count them exactly.")
    layers: PositiveCount = Field(default=1, description="mlp: linear layers; cnn: depth 18, 34 or 50; transformers and lstm: layers.")
    width: PositiveCount = Field(default=64, description="mlp: hidden units; cnn: channels of the first stage; others: model width.")
    heads: PositiveCount = Field(default=1, description="Attention heads; divides the width.")
    feed_forward: PositiveCount | None = Field(default=None, description="Hidden width of transformer blocks; left out: 4 * width.")
    seq: PositiveCount = Field(default=1, description="Tokens per sample; decode: tokens in the cache.")
    positions: PositiveCount | None = Field(default=None, description="Learned positions of transformers; left out: seq (decode: seq + 1).")
    vocab: PositiveCount = Field(default=1000, description="Vocabulary of encoder, decoder and lstm.")
    inputs: PositiveCount = Field(default=784, description="mlp: input features; recommender: dense features.")
    classes: PositiveCount = Field(default=10, description="Outputs of mlp, cnn and encoder.")
    image_px: PositiveCount = Field(default=224, description="cnn: height and width of the image.")
    channels: PositiveCount = Field(default=3, description="cnn: channels of the image.")
    tables: PositiveCount = Field(default=8, description="recommender: embedding tables.")
    table_rows: PositiveCount = Field(default=10_000, description="recommender: rows of each table.")
    embedding_dim: PositiveCount = Field(default=32, description="recommender: width of each table's rows.")
    lookups: PositiveCount = Field(default=1, description="recommender: rows summed per table and sample.")
    parallel: Parallel = Parallel()
    checkpointing: bool = Field(default=False, description="Keep only each block's input and compute the block again going backward.")
    input_bytes_per_step: Quantity = Field(default=0.0, description="Bytes read from storage per step, all copies together.")

    @property
    def training(self) -> bool:
        """Whether the job computes gradients."""
        return self.mode is Mode.train

    @property
    def hidden(self) -> int:
        """Hidden width of transformer blocks."""
        return self.feed_forward or 4 * self.width

    @property
    def position_count(self) -> int:
        """Learned positions of a transformer."""
        return self.positions or self.seq + (self.mode is Mode.decode)

    @property
    def samples_per_step(self) -> int:
        """Samples that all copies see in one step."""
        return self.batch * self.parallel.dp * self.parallel.grad_accum

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ContradictionError.refuse(_errors(self))
        return self


CNN_DEPTHS = (18, 34, 50)
ATTENTIVE = frozenset({Family.encoder, Family.decoder})
BLOCKWISE = ATTENTIVE | {Family.cnn, Family.traced}  # have blocks whose activations can be computed again
SHARDED = ATTENTIVE | {Family.traced}  # have closed forms for tensor-parallel shards and pipeline stages


def _errors(job: JobSpec) -> list[Warned]:
    """What contradicts itself in a job."""
    wrong: list[Warned] = []
    if job.mode is Mode.decode and job.family not in {Family.decoder, Family.traced}:
        wrong.append(Warned("/mode", "no_decode", f"only a decoder decodes: give the family {job.family.value} the mode prefill"))
    if job.family is Family.cnn and job.layers not in CNN_DEPTHS:
        wrong.append(Warned("/layers", "unknown_depth", f"a cnn has {CNN_DEPTHS} layers, not {job.layers}"))
    if job.family in ATTENTIVE and job.width % job.heads:
        wrong.append(Warned("/heads", "uneven_heads", f"{job.heads} heads do not divide the width {job.width}"))
    needed = job.seq + (job.mode is Mode.decode)
    if job.family in ATTENTIVE and job.position_count < needed:
        wrong.append(Warned("/positions", "too_few_positions", f"{needed} tokens need as many learned positions, not {job.position_count}"))
    if job.checkpointing and job.family not in BLOCKWISE:
        wrong.append(Warned("/checkpointing", "no_blocks", f"the family {job.family.value} has no blocks to compute again: leave it out"))
    if job.parallel.tp * job.parallel.pp > 1 and job.family not in SHARDED:
        wrong.append(Warned("/parallel", "not_sharded", f"the family {job.family.value} is spread by dp only: leave tp and pp at 1"))
    if job.parallel.pp > job.layers and job.family in ATTENTIVE:
        wrong.append(Warned("/parallel/pp", "too_many_stages", f"{job.parallel.pp} stages need as many layers, not {job.layers}"))
    if not job.training and job.parallel.grad_accum > 1 and job.parallel.pp == 1:
        wrong.append(Warned("/parallel/grad_accum", "no_gradients", "inference accumulates no gradients: leave grad_accum at 1"))
    return wrong
