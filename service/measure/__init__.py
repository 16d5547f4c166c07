"""Runs real torch jobs and writes down how long they take: the measurements the runtime model is calibrated and judged on."""
