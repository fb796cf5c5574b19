"""Launch, watch, steer, rewind and prove a language-model training run from a terminal."""

__version__ = "0.1.0"
