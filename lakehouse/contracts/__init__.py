"""The register of every table, a module a layer."""
