"""Bulk transfers over time: relays, prices by the hour, one copy for several sites. README.md is the page."""
