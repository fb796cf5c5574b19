"""Tests of the hub's doors."""
