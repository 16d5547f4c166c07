"""Max-min fairness: water filling, its levels, and the proof of each."""
