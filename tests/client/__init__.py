"""The client library: what a Python program sees of a run, and how it steers it."""
