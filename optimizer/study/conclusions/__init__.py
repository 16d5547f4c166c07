"""What the rows prove: intervals, differences, gates, statistics over replicates, and the recommendation in words."""
