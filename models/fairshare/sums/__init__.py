"""The policies that add up over jobs: most throughput, least cost, the largest geometric mean."""
