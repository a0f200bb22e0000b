"""JavaScript functions."""
