"""From stored annotations and JPEGs to training and evaluation batches."""
