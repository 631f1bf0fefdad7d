"""
Sentry: what it is told of outcomes, and what it must not see.

`loading` decides when the rest is needed, and alone may be imported without the SDK, with `slots`.
`scrubbing` keeps secrets back, `events` says what failed, `tracing` continues traces, `checkins`
tells of schedules.
"""
