"""Parts of detectors that Detectron2 has not, or not so."""
