"""Which job runs on which GPUs."""

from models.contract import Kind

KIND = Kind(name="placement", package=__name__, summary="Which job runs on which GPUs: place, repack or preempt.")
