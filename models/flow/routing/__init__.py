"""Routes without failures: the searches for one goal after another, the plan, its check and its words; fairness has its own folder."""
