"""What the queue decides, free of clock, store and network."""
