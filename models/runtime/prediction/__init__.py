"""From work and device to seconds and GiB: operators, steps, runs, memory, what devices say to each other."""
