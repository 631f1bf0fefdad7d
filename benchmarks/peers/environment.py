"""
The virtual environment of a peer: made at its first use, from the versions that the peer pins.

It is kept below the checkout in `.venv-peers/NAME`, with a stamp of what was installed; changed
pins or another Python make it anew.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parent
FOLDER = PEERS.parent.parent / ".venv-peers"


def python_of(peer: str) -> Path:
    """
    Return the Python of a peer's environment, which is made if need be.

    Raises:
        subprocess.CalledProcessError: installing failed; the next call starts over.
    """
    pins = PEERS / peer / "requirements.txt"
    folder = FOLDER / peer
    python, stamp = folder / "bin" / "python", folder / ".installed"
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"making the environment of {peer}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        subprocess.run([*pip, "--requirement", pins], check=True)
        stamp.write_text(digest)
    return python
