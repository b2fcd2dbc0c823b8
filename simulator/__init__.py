"""A seeded synthetic world of card payments, the log it writes, and the truth about it."""
