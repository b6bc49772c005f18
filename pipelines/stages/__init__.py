"""One DVC stage per file: a plain function and a five-line command line."""
