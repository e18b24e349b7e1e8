"""Measurements of this project's own speed: tools/benchmark.py."""
