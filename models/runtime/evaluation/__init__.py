"""How sure predictions are, and how far off they were on jobs that were left out."""
