"""`make demo`: a payment's whole way on one machine, from nothing to a live result."""
