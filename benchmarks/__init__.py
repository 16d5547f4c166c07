"""Benchmarks on small public instances."""
