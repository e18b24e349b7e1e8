"""Measurements of the segmentation side's speed (see common/benchmark)."""
