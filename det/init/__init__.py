"""First configs of detectors for a folder of data."""
