"""Measuring: the suites that need nothing but pgflow. ``pgflow bench`` runs a part of them; ``python -m benchmarks``,
in the repository, all, with peers beside pgflow and plots."""
