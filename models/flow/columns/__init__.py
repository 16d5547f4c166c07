"""Column generation over paths: the master program, the pricing of new paths, and the paths that are known."""
