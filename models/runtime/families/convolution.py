"""Closed form of the cnn: a residual network (He et al., "Deep residual learning for image recognition", 2016)."""

from __future__ import annotations

from models.runtime.families.counting import Tally
from models.runtime.job import JobSpec
from models.runtime.operators import Work

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK_DEPTH = 50
EXPANSION = 4  # output channels of a bottleneck block over its inner channels


def cnn(job: JobSpec) -> Work:
    """A stem of 7x7 with stride 2, pooling of 3x3 with stride 2, four stages of residual blocks, the mean, one dense layer."""
    batch, width = job.batch, job.width
    stem_px = after(job.image_px, 7, 2)
    px = after(stem_px, 3, 2)
    tally = Tally(job)
    tally.convolution(batch, job.channels, width, 7, job.image_px, stem_px, input_gradient=False)
    tally.batch_normalisation(batch, width, stem_px)
    tally.elementwise(batch * width * stem_px**2)
    tally.pooling(batch, width, stem_px, px, 3, indices=True)
    channels = width
    for stage, blocks in enumerate(STAGES[job.layers]):
        inner, stride = width * 2**stage, 1 if stage == 0 else 2
        for place in range(blocks):
            block, made, made_px = _block(job, channels, inner, px, stride if place == 0 else 1)
            tally.checkpointed(block, 1, batch * channels * px**2)
            channels, px = made, made_px
    tally.reduction(batch * channels * px**2, batch * channels)
    tally.linear(batch, channels, job.classes)
    tally.cross_entropy(batch, job.classes)
    return tally.work()


def _block(job: JobSpec, channels: int, inner: int, px: int, stride: int) -> tuple[Tally, int, int]:
    """One residual block with its output's channels and size; a 1x1 convolution on the shortcut where the shape changes."""
    bottleneck = job.layers == BOTTLENECK_DEPTH
    made = inner * EXPANSION if bottleneck else inner
    first = [(channels, inner, 1, 1), (inner, inner, 3, stride), (inner, made, 1, 1)]
    steps = first if bottleneck else [(channels, inner, 3, stride), (inner, made, 3, 1)]
    block, at = Tally(job), px
    for place, (before, filters, kernel, step) in enumerate(steps):
        out = after(at, kernel, step)
        block.convolution(job.batch, before, filters, kernel, at, out)
        block.batch_normalisation(job.batch, filters, out)
        if place < len(steps) - 1:
            block.elementwise(job.batch * filters * out**2)
        at = out
    if channels != made or stride > 1:
        before_kept = block.kept_bytes
        block.convolution(job.batch, channels, made, 1, px, at)
        block.kept_bytes = before_kept  # its input is the block's, which is kept already
        block.batch_normalisation(job.batch, made, at)
    numbers = job.batch * made * at**2
    block.elementwise(numbers, operands=2, backward=False)
    block.elementwise(numbers)
    block.gradients_added(job.batch * channels * px**2)  # both branches' gradients meet
    return block, made, at


def after(px: int, kernel: int, stride: int) -> int:
    """Height of what a window of ``kernel`` leaves of ``px``, padded by half the window."""
    return (px + 2 * (kernel // 2) - kernel) // stride + 1
