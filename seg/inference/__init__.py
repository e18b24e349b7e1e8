"""What is done with a trained segmentation model: predictions, labels, pictures, exported files, its cost."""
