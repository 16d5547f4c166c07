"""Slurm: what its commands tell as a snapshot, and orders carried out by ``scontrol`` or slurmrestd. See README.md."""
