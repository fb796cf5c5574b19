"""The mathematics: layers, the transformer, FLOP counts."""
