"""The decision API: the payment is in the log before anybody answers."""
