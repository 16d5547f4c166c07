"""What the exact program is made of, beside its Pyomo: the setting, levels, means, and the way back to a plan."""
