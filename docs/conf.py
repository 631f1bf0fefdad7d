"""Sphinx builds the documentation from this; the reference parts are read from the package."""

import sys
import tomllib
from pathlib import Path

import django
from django.conf import settings

here = Path(__file__).parent
sys.path[:0] = [str(here / "_ext"), str(here.parent)]

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "tasks_app"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

project = "tasks_app"
author = "the tasks_app contributors"
copyright = author
release = tomllib.loads((here.parent / "pyproject.toml").read_text())["project"]["version"]
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "from_the_code",
]
exclude_patterns = ["_build", "_ext"]
default_role = "code"
html_theme = "furo"
html_static_path = ["_static"]
html_title = f"tasks_app {release}"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Other projects' names are not looked up: building the documentation needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!tasks_app\b).*"),
]
