"""How jobs share the time of GPUs that differ in speed."""

from models.contract import Kind

KIND = Kind(name="fairshare", package=__name__, summary="How jobs share the time of unlike GPUs: fair, fast or cheap, each exactly.")
