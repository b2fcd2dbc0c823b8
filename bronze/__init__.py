"""As received: every record of the topics, sealed, with where it came from."""
