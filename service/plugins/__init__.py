"""Schedulers follow the plan: Slurm and Kubernetes place their GPU jobs where it says, and never wait for it.

A scheduler is watched (``cluster.Snapshot``), its waiting jobs are planned in batches by ``placement``, and the plan becomes
``orders.Orders`` with a version and a time to live, which an adapter (``scheduler.Scheduler``) carries out after re-checking each.
"""
