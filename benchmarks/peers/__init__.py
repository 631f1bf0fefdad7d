"""The peers: a folder for each environment, with its pinned requirements and its contestants."""
