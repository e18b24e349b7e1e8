"""Measurements of the detection side's speed (see common/benchmark)."""
