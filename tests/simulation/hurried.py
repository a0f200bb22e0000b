"""A pytest plugin for planted bugs: the first counterexample will do, and it is the same one every time."""

from hypothesis import Phase, settings

settings.register_profile("hurried", phases=[Phase.generate], database=None, derandomize=True)
settings.load_profile("hurried")
