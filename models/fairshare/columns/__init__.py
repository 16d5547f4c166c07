"""Jobs taken together in classes: the columns and rows of their programs, and how what a class has is dealt out to its jobs."""
