"""Fill a contestant's queue: `python -m benchmarks.fill CONTESTANT COUNT`."""

import sys
from importlib import import_module

if __name__ == "__main__":
    name, count = sys.argv[1:]
    import_module(f"benchmarks.{name}").fill(int(count))
