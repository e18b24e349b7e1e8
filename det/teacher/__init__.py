"""Teachers of detectors: what holds them, live or from a cache."""
