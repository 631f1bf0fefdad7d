"""The faults of the fault matrix, injected into real workers, relays, servers and links.

Each case bears the number of its row in `docs/reliability.md`. The cases run once per pair of
`test_every_pair`, in processes of their own; by hand, on the pair that the environment chooses:

    TASKS_TEST_DATABASE=postgres TASKS_TEST_BROKER=redis python -m pytest tests/faults/cases/runs

The cases of a call's path (`calls`) let relays die and the cases of a run (`runs`) keep workers,
each with a relay, from case to case: hence one folder at a time.
"""
