"""The optimum as an exact function of one number: linear programs whose numbers move along a line, and what is known without a solve."""
