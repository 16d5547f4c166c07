"""From shares to leases: who has which whole GPUs in each round. README.md is the page."""
