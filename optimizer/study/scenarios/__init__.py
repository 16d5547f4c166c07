"""From the study file to the list of its scenarios: places, values of axes, edits, draws, and what they do together."""
