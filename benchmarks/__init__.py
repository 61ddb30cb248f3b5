"""Measurements of pgflow; each module is run as ``python -m benchmarks.NAME``."""
