"""Segmentation data: which files there are, what is checked of them, what is read from them, batches of it."""
