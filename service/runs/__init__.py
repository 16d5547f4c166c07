"""Durable runs: the tables, the one writer, the queue with its leases, and the workers that serve it."""
