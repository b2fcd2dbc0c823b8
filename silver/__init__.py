"""True, typed, masked: what was admitted, what was not and why, each record exactly once."""
