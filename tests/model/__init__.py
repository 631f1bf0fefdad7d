"""Random histories of a whole installation, each step of which is held against the rules."""
