"""What the user asked for: the schema, where every value came from, and hyperparameters as pure functions."""
