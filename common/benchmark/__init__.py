"""Measurements of this project's own speed, one subcommand of tools/benchmark.py a file."""
