"""Replays a trace of jobs through a simulated cluster under several policies, and compares them: see README.md."""
