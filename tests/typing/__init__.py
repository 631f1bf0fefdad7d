"""The public API as a type checker sees it; `mypy` reads this package, nothing runs it."""
