"""Detectors that Detectron2 does not build: to label, to predict and to be evaluated, not to train."""
