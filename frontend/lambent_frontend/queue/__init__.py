"""The queue: what was answered 202 and has not ended yet. docs/async.md."""
