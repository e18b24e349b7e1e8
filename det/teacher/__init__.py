"""Teachers of detectors: what they are built from, and what holds them."""
