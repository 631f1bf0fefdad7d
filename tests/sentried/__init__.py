"""A project whose errors go to Sentry: the test project with two pages.

`SENTRY_DSN` in the environment is all that it has to say; `TASKS_TEST_OWN_SENTRY` makes it call
`sentry_sdk.init` itself.
"""
