"""What really happened: a log of every change of an outcome, and a checker that judges it."""
