"""A long run under faults: real workers, a relay and clients, and a seeded nemesis against them.

    python3 run.py test --soak 10                          ten minutes, on SQLite and files
    TASKS_TEST_DATABASE=postgres TASKS_TEST_BROKER=redis python3 run.py test --soak 10
    … --soak-seed 7 --soak-report soak.json                the same dice again; a report as JSON
    … --soak-tasks 5000 --soak-kills 300                   until both are reached

With `--soak-tasks` or `--soak-kills` the run ends as soon as all given counts are reached, be it
before its minutes are over; it goes on after them for at most as long again, and fails if that
was not enough. `python -m tests.soak` is the same without pytest.

The nemesis kills, stops and disconnects everything but the disk. Then all faults end, the system
gets time to finish, and every outcome, effect and call is judged (`verdict`). A run with a
violation exits with 1, prints its seed and keeps its folder with all logs. The dice are the
seed's; what they hit depends on the machine, so a seed repeats a schedule, not a run.
"""
