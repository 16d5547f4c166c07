"""What is proved of a level: claims rounded outward, rounds as a plan tells them, and the check of both."""
