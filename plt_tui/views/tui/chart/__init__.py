"""The chart of the terminal UI: from columns of numbers to character cells, drawn with numpy on Textual's Line API."""
