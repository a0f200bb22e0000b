"""Where instances run: one small interface, `api`, and the backends behind it."""
