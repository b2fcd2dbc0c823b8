"""One module per figure in the README; each prints one JSON object as its last line."""
