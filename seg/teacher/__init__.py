"""Teachers of segmentation: what holds them, and in which classes, at which scale and from which cache they teach."""
