"""Brute force for tiny problems, one file per kind: too slow to be wrong."""
