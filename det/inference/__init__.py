"""What is done with a trained detector: predictions, labels, pictures, exported files, its cost."""
