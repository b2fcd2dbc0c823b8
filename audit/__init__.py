"""An independent witness: reads topics and tables with its own readers, and says what is lost, doubled or altered."""
