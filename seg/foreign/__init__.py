"""Segmentation models that neither SMP nor this suite builds: to teach, to label and to be evaluated, not to train."""
