"""Tests of the kinds, one file or more per kind."""
