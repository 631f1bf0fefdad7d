#!/usr/bin/env python3
"""
Run this checkout with nothing but Python and pip: `demo` shows it, `test` tests, `bench` measures.

The first run makes an isolated environment in `.venv` (about half a minute, from the network);
later runs start at once. The stamp inside says what was installed, from which `pyproject.toml`
and by which Python; it is absent while an installation is under way, so whatever an interrupted
run left behind is built again. Standard library only.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(
        f"run.py: this is Python {sys.version.split()[0]}; 3.11 or newer is needed.\n"
        "Run it with a newer one, for example:  python3.12 run.py demo"
    )

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("TASKS_APP_VENV") or ROOT / ".venv").absolute()
PYTHON = VENV / "bin" / "python"
#: Present in every environment made here, so that no other directory is ever cleared.
MARK = VENV / ".made-by-run"
#: First line: digest of pyproject.toml and Python; then one line per installed extra.
STAMP = VENV / ".installed-by-run"
#: `pip --python` exists since this version.
PIP_NEEDED = (22, 3)
#: command → extras it needs, arguments that start it, whether it runs in the checkout's folder
COMMANDS = {
    "demo": ("example,redis,postgres", ["-m", "example_project.demo"], False),
    "test": ("test", ["-X", "dev", "-m", "pytest"], True),
    "bench": ("bench", ["-m", "benchmarks.compare"], True),
}
NO_MYSQL = (
    "run.py: mysqlclient could not be built, so MariaDB is left out. To have it:\n"
    "  apt-get install gcc pkg-config libmariadb-dev python3-dev, remove {venv}, run again"
)


def main() -> None:
    """Read the command, prepare the environment, become the command."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Show tasks_app at work (demo), test it (test) or measure it beside its peers "
        "(bench), in its own environment.",
        epilog="Everything after the command is passed on; try: run.py demo --help. "
        "TASKS_APP_VENV names another place for the environment than .venv.",
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for what it starts")
    given = parser.parse_args()
    extras, start, in_checkout = COMMANDS[given.command]
    wants_mysql = given.command == "test" or any("mysql:" in each for each in given.arguments)
    try:
        prepare(extras, wants_mysql=wants_mysql)
    except KeyboardInterrupt:
        sys.exit("\nrun.py: interrupted; the next run starts over.")
    if in_checkout:
        os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), *start, *given.arguments])


def prepare(extras: str, *, wants_mysql: bool) -> None:
    """Leave an environment with the extras installed; only one run at a time works on it."""
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with VENV.with_name(VENV.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = (ROOT / "pyproject.toml").read_bytes() + f"{sys.version}{ROOT}".encode()
        digest = hashlib.sha256(source).hexdigest()
        stamp = STAMP.read_text().split("\n") if STAMP.exists() else []
        if stamp[:1] != [digest] or not PYTHON.exists():
            make_venv()
            stamp = [digest]
        if extras not in stamp:
            STAMP.unlink(missing_ok=True)
            if install(extras):
                sys.exit("run.py: installing failed, see above. Is the network reachable?")
            stamp.append(extras)
        if wants_mysql and "mysql" not in stamp:
            add_mysql(stamp)
        STAMP.write_text("\n".join(stamp))


def make_venv() -> None:
    """Start from an empty environment without pip, which needs no ensurepip either."""
    if MARK.exists():
        shutil.rmtree(VENV)
    elif VENV.exists() and any(VENV.iterdir()):
        sys.exit(f"run.py: {VENV} was not made by run.py. Move it, or set TASKS_APP_VENV.")
    VENV.mkdir(exist_ok=True)
    MARK.touch()
    venv.create(VENV, symlinks=True)


def add_mysql(stamp: list[str]) -> None:
    """Try the one extra that needs a C compiler; without it only MariaDB is missing."""
    if "no mysql" not in stamp:
        failed = install("mysql", subprocess.DEVNULL)
        stamp.append("no mysql" if failed else "mysql")
    if "no mysql" in stamp:
        print(NO_MYSQL.format(venv=VENV), file=sys.stderr, flush=True)
        if os.environ.get("CI"):
            sys.exit("run.py: in CI every database must be there.")


def install(extras: str, output: int | None = None) -> int:
    """Install this checkout, editable, with uv if there is one, else with the outer pip."""
    uv = shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    else:
        check_pip()
        command = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet"]
    print(f"run.py: installing [{extras}] into {VENV} (once; needs the network) …", flush=True)
    command += ["-e", f"{ROOT}[{extras}]"]
    return subprocess.run(command, check=False, stdout=output, stderr=output).returncode


def check_pip() -> None:
    """Stop with the remedy where pip is missing or cannot install into another environment."""
    asked = [sys.executable, "-m", "pip", "--version"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = re.match(r"pip (\d+)\.(\d+)", answer)
    if not found:
        sys.exit(f"run.py: {sys.executable} has no pip. apt-get install python3-pip, or get uv.")
    if tuple(map(int, found.groups())) < PIP_NEEDED:
        wanted = ".".join(map(str, PIP_NEEDED))
        sys.exit(f"run.py: pip {wanted} or newer is needed; python3 -m pip install --upgrade pip")


if __name__ == "__main__":
    main()
