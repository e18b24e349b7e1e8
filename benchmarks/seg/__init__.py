"""Measurements of segmentation."""
