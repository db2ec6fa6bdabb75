"""Accounts: people, their passwords, their sessions and their profiles, over REST."""
