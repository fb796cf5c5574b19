"""Screens and dialogs: they route keys and events, and leave drawing to the panes."""
