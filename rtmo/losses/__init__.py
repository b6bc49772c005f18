"""Target assignment and loss terms."""
