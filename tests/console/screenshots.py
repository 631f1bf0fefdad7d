"""
Pictures of the console for the documentation: `python -m tests.console.screenshots [FOLDER]`.

One in light and one in dark of each page of the table that is to be pictured, 1400 px wide: the
example project with the scene of the tests in a database of its own. Ages, lengths and ids are the
same every time, but for the time of day, which is that of the taking.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from PIL import Image

FOLDER = Path(__file__).parents[2] / "docs" / "_static" / "console"

THEMES = ("light", "dark")

#: Pixels: as wide as a window, and no higher than a reader scrolls.
WIDTH, HIGHEST = 1400, 1600

#: A page has few colours; so many keep its text crisp in a quarter of the bytes.
COLOURS = 256

#: Leaves the width of the window to the page.
FOLD_SIDEBAR = "localStorage.setItem('django.admin.navSidebarIsOpen', 'false')"


@contextmanager
def own_stage() -> Iterator[Any]:
    """Set the example project up with an empty database and yield a stage on it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="example_project.settings",
            DISPATCH_DATA=folder,
            DISPATCH_LOG_LEVEL="ERROR",
        )
        django.setup()
        call_command("migrate", verbosity=0)
        with import_module("tests.console.stage").open_stage(for_tests=False) as stage:
            yield stage


def take(stage: Any, page: Any, theme: str, folder: Path) -> Path:
    """Put a picture of a page into a folder and return its path."""
    stage.emulate(theme)
    stage.resize(WIDTH)
    stage.browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    stage.open(page.address(stage.facts))
    height = stage.browser.execute_script("return document.documentElement.scrollHeight")
    stage.resize(WIDTH, min(height, HIGHEST))
    with Image.open(io.BytesIO(stage.browser.get_screenshot_as_png())) as picture:
        path = folder / f"{page.name}-{theme}.png"
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
        few.save(path, optimize=True)
    return path


def main(arguments: list[str]) -> int:
    """Take all pictures, or those of the pages named."""
    parser = argparse.ArgumentParser(prog="python -m tests.console.screenshots")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="PAGE", help="by default all")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    with own_stage() as stage:
        stage.browser.execute_script(FOLD_SIDEBAR)
        for page in import_module("tests.console.pages").PAGES:
            is_wanted = page.name in given.only if given.only else page.is_pictured
            if is_wanted:
                for theme in THEMES:
                    path = take(stage, page, theme, given.folder)
                    sys.stdout.write(f"{path} ({path.stat().st_size // 1024} KB)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
