"""The UI in a browser: a page with a terminal in it, and for each tab an `attach` of its own behind it."""
