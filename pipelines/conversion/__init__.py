"""From records of a source to the stores of its splits: what the stage `convert` is made of."""
