"""A project whose requests can be followed: one page, and the work that it causes.

Its processes write JSON lines, and tell Sentry, a receiver of OTLP and Prometheus what happens.
"""
