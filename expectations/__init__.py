"""Contracts at work: row rules, their suites and predicates, and the one definition of admission."""
