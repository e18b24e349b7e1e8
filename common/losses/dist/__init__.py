"""DIST: the loss, and the ways in which it is computed."""
