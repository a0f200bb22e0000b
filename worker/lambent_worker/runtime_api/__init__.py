"""Lambda's Runtime API for one instance: what its runtime may say when, and how that is said over HTTP."""
