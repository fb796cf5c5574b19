"""Doors from the shell: thin commands; heavy imports happen inside them."""
