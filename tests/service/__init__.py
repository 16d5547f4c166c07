"""Tests of what users touch: command line, importers, reports."""
