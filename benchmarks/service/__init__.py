"""The benchmark of the service: real server processes on loopback, driven by clients on the same machine.

``python -m benchmarks run service`` measures every row and saves the table.
"""
