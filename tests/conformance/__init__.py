"""One suite of scenarios that runs on every pair of database and broker."""
