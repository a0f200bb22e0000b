"""Loaded as a function's module is, before there is a function."""


def handler(event: object, context: object) -> object:
    return event
