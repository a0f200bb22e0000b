"""Functions that are invoked by the clock."""
