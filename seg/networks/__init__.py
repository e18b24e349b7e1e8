"""The networks of segmentation: SMP's, others, and what is asked of each."""
