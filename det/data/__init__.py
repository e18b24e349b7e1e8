"""Detection data: data sets by name, their ground truth in one form, what is checked of it, batches of it."""
