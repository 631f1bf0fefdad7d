"""Peers: projects beside which this one is measured, each in an environment of its own."""
