"""What people see; every view is a client of the hub, or of the record of a finished run."""
