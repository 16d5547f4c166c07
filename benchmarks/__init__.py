"""Benchmarks on small public and seeded instances: ``python -m benchmarks list`` and ``python -m benchmarks run KIND``."""
