"""Who solves the scenarios: this process, supervised processes of this machine, a Ray cluster, or batches; all by one protocol."""
