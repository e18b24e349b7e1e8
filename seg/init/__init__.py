"""First configs of segmentation models for a folder of data."""
