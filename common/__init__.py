"""Code that detection and segmentation share."""
