"""Traffic that survives failures, or loses least in them. README.md is the page."""
