"""Predicts how long a torch job takes on a device and how much memory it needs; pure, no kind. README.md is the page."""
