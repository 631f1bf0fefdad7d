"""Two connections that want the same row: exactly one of them gets it."""
