"""All ranks of one run: its state, its record, its folder, its processes and the machine's gauges.

Never imports `training`, torch or textual: hub and ranks understand each other through `protocol`.
"""
