"""Ready to use: named features, scores, decisions, training sets and daily figures."""
