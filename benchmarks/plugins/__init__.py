"""Benchmarks of what follows a scheduler."""
