"""Two states of one project's code: what a web process had and what a worker has."""
