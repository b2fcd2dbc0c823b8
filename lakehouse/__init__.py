"""The kernel: settings, contracts, the log's codec, storage verbs, keys and errors; it imports no room."""
