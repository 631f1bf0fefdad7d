"""A flight-dispatch desk: tutorial, demo and acceptance fixture of tasks_app."""
