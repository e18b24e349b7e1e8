"""Checkpoints that other projects wrote, written once more as the OUTPUT_DIR of a run of ours."""
