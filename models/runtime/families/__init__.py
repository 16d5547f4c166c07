"""The work of a job in closed form, by family of network, counted operator by operator."""
