"""From text to tokens to batches; knows no torch."""
