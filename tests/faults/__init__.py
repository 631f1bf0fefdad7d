"""The faults of the fault matrix, injected into real workers, relays, servers and links.

Each case bears the number of its row in `docs/reliability.md`. The cases run once per pair of
`test_every_pair`, in processes of their own; by hand, on the pair that the environment chooses:

    TASKS_TEST_DATABASE=postgres TASKS_TEST_BROKER=redis python -m pytest tests/faults/cases
"""
