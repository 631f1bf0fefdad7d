"""The scenarios: what every database and broker has to do alike, with a real worker."""
