"""Plans as arrays: what each job gets and what that is worth; the plans that need no search."""
