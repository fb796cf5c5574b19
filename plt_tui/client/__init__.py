"""A run as a Python program sees it: its history as arrays, its events, and commands; see docs/python-client.md."""
