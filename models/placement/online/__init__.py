"""Placing requests one by one as they arrive: the state of a cluster, and the rules that choose seats."""
