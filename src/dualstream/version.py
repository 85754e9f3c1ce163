"""Version of the package, where every file may read it; pyproject.toml has the same."""

__version__ = "0.1.0"
