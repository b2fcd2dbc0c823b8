"""Alerts and verification: who is told of a decision, and what a challenged customer answers."""
