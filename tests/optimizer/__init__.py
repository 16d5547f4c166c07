"""Tests of the solvers and drivers."""
