"""Tests of the plugins: the core on a pretended scheduler, and each adapter."""
