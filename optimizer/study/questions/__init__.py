"""The asks of a study, answered after its table: sweeps, trade-offs, targets, each by rows that it asks for itself."""
