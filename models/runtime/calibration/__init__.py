"""The ladder from datasheet to finished runs: what measurements teach of a device."""
