"""Whole jobs on devices: the program of the least makespan, and simple rules beside it."""
