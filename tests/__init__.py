"""Tests; shared parts are imported from here as `tests.<module>`."""
