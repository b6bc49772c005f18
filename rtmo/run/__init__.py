"""One training from a recipe: model, data, loop and validation put together, and its outputs."""
