"""From a training set to a signed model: split by time, fit, evaluate, register."""
