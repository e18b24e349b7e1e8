"""Training data: the loader, image files, and the digits scenes."""
