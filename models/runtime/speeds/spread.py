"""Devices as a gang sees them that is not consolidated: few of its members on each node, so that they talk over the outer links."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.runtime.device import Coefficient, Link, Source

if TYPE_CHECKING:
    from models.runtime.device import DeviceSpec

BYTES_PER_GBIT = 1e9 / 8
NETWORK_ALPHA_S = 2e-5  # a message between nodes
LARGEST_NETWORK = 4096  # nodes that a network of unknown size is taken to join


def spread_device(device: DeviceSpec, gang: int) -> DeviceSpec | None:
    """The device with its innermost links joining as few of the ``gang`` as the outer links allow: one, where there are nodes enough.

    None for a gang of one, and where no outer links are described, or they are so small that the gang is packed in any case.
    ``bytes_per_s`` of the outer links stays what one device gets while all of a full node talk, which is careful: other jobs may.
    """
    if gang == 1 or len(device.links) <= 1:
        return None
    inner, outer = device.links[0], math.prod(link.devices for link in device.links[1:])
    together = max(1, -(-gang // outer))
    if together >= min(gang, inner.devices):
        return None
    return device.model_copy(update={"links": (inner.model_copy(update={"devices": together}), *device.links[1:])})


def with_network(device: DeviceSpec, gbps: float) -> DeviceSpec:
    """The device with a network of ``gbps`` Gbit/s for each device between its nodes, where it describes none.

    A device without any links is taken to stand alone on its node.
    """
    if len(device.links) > 1:
        return device
    rate = Coefficient(value=gbps * BYTES_PER_GBIT, source=Source.assumed, note="given by the user", log_sd=0.3)
    alpha = Coefficient(value=NETWORK_ALPHA_S, source=Source.assumed, log_sd=0.7)
    inner = device.links or (Link(level="node", devices=1, alpha_s=alpha, bytes_per_s=rate),)
    return device.model_copy(update={"links": (*inner, Link(level="network", devices=LARGEST_NETWORK, alpha_s=alpha, bytes_per_s=rate))})
