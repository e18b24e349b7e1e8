"""Import checkpoints of other projects as the OUTPUT_DIR of a run."""
