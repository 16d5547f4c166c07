"""What to build: modules on links so that traffic fits, also after failures. README.md is the page."""
