"""Functions, or layers, that bring their runtime."""
