"""Offline-first sync over REST."""
