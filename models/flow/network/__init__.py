"""The network of a problem as arrays, whole or folded along its symmetries, and what a plan sends where on it."""
