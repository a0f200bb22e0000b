"""Lambent beside others that call functions: the same echo, the same machine, the same run.

A file here for each of them. It runs in that system's own environment, so it imports nothing but the standard
library before it knows that it is there, and nothing of Lambent ever.
"""
