"""Ruby functions."""
