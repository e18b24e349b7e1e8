"""What a run leaves to look at: a page, curves, pictures side by side, relations among classes."""
