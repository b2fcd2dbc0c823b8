"""The engine: one deterministic writer that turns the log into decisions, and the tools that control it."""
