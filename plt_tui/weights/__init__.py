"""Weights in and out: our own files, Hugging Face's folders, torch's, and JSON."""
