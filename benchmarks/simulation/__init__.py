"""A simulation of relay, broker and workers: how long queues get, and how many workers to add."""
