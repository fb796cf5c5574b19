"""What processes say to each other: commands, events, their JSON form, and the link between the hub and one rank.

Standard library only, and values are built-in types: a message can be read by a process that imports neither torch nor textual.
"""
