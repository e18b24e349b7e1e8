"""Measurements of detection."""
