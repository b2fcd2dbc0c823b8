"""The version of the code, as decisions and run records name it; equal to pyproject.toml's."""

VERSION = "0.1.0"
