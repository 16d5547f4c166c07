"""Paths: cheapest ones, those within a latency limit, disjoint ones, those a demand may use, and the routes of a plan as columns."""
