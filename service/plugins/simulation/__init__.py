"""What if this job were submitted: would it start, when, and what would have to move. Asked of a snapshot, never of the scheduler."""
