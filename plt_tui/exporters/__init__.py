"""Copies of a run's numbers in other tools: what an exporter is, the process that runs one, and those that come with us."""
