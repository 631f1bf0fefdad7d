"""
Environments of the peers: each has its own, made once from its pinned requirements.

They stand in `.venv-peers` of the checkout, or in the folder that `BENCHMARK_PEERS` names. An
environment is whole once it holds its stamp, which is a digest of what it was made from; without
it, it is made anew.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parent
STAMP = ".installed"


def folder() -> Path:
    """Return the folder that holds all environments."""
    return Path(os.environ.get("BENCHMARK_PEERS") or PEERS.parent.parent / ".venv-peers").absolute()


def python_of(peer: str) -> Path:
    """
    Return the interpreter of a peer's environment, which is made first if it is not whole.

    Raises:
        RuntimeError: Installing failed; the text is the end of what the installer said.
    """
    home = folder() / peer
    requirements = PEERS / peer / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = home / STAMP
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, symlinks=True)
        _install(home, requirements)
        stamp.write_text(digest)
    return home / "bin" / "python"


def _install(home: Path, requirements: Path) -> None:
    print(f"installing {requirements.parent.name} (once; needs the network) …", flush=True)
    python = str(home / "bin" / "python")
    uv = shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    command += ["-r", str(requirements)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"installing {requirements} failed: {run.stderr[-2_000:]}")
