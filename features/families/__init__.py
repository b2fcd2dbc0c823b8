"""The catalogue's features, a module a family."""
