"""Offline-first sync: what clients change while they are away, and which change wins."""
