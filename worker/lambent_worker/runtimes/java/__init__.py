"""Java functions."""
