"""The simple forms that are often written down for transfer, compute and access time, each beside its correction.

The ``naive_*`` forms are kept to show how far off they are (README.md, "Simple forms"); nothing else uses them. Sizes are in bytes, link
rates in bits per second, memory and storage bandwidth in bytes per second, as they are usually quoted.
"""

from __future__ import annotations

BITS_PER_BYTE = 8
TRAINING_FLOPS = 6  # per parameter and token of a dense transformer (Kaplan et al., "Scaling laws for neural language models", 2020)
INFERENCE_FLOPS = 2


def naive_transfer_s(size: float, bits_per_s: float) -> float:
    """L/R with L in bytes and R in bits per second: 8 times too short, and without the way."""
    return size / _rate(bits_per_s, "bits_per_s")


def transfer_s(size: float, bits_per_s: float, delay_s: float = 0.0) -> float:
    """8L/R + D: bytes to bits, and the delay of the way, which is all there is for small messages."""
    return BITS_PER_BYTE * size / _rate(bits_per_s, "bits_per_s") + delay_s


def naive_compute_s(parameters: float, devices: int, peak_flops_per_s: float) -> float:
    """P/(N * peak): takes parameters for operations, and the peak for what is reached."""
    return parameters / (_devices(devices) * _rate(peak_flops_per_s, "peak_flops_per_s"))


def flops_over_peak_s(flops: float, devices: int, peak_flops_per_s: float) -> float:
    """FLOPs/(N * peak): right operations, still at the peak; the usual estimate, and a lower bound."""
    return flops / (_devices(devices) * _rate(peak_flops_per_s, "peak_flops_per_s"))


def compute_s(flops: float, devices: int, peak_flops_per_s: float, utilisation: float, communication_s: float = 0.0) -> float:
    """FLOPs/(N * peak * utilisation) + communication; utilisation in (0, 1] is measured (model FLOPs utilisation).

    Raises ValueError for a utilisation outside of (0, 1].
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation is a share of the peak, in (0, 1], not {utilisation}")
    return flops_over_peak_s(flops, devices, peak_flops_per_s) / utilisation + communication_s


def training_flops(parameters: float, tokens: float) -> float:
    """6 * P * T: forward 2, backward 4. Without attention's own products, and for parameters without embeddings."""
    return TRAINING_FLOPS * parameters * tokens


def inference_flops(parameters: float, tokens: float) -> float:
    """2 * P * T."""
    return INFERENCE_FLOPS * parameters * tokens


def naive_access_s(size: float, capacity: float) -> float:
    """S/C: size over capacity, both in bytes, is a fill level and not a time."""
    return size / _rate(capacity, "capacity")


def access_s(size: float, bytes_per_s: float, latency_s: float = 0.0, *, capacity: float | None = None) -> float:
    """S/B + latency. Capacity is a limit and not a rate: raises ValueError for more bytes than ``capacity`` holds."""
    if capacity is not None and size > capacity:
        raise ValueError(f"{size:g} bytes are more than the {capacity:g} that fit: there is no access time")
    return size / _rate(bytes_per_s, "bytes_per_s") + latency_s


def _rate(rate: float, name: str) -> float:
    if not rate > 0:
        raise ValueError(f"{name} must be above 0, not {rate}")
    return rate


def _devices(devices: int) -> int:
    if devices < 1:
        raise ValueError(f"at least one device computes, not {devices}")
    return devices
