"""The sync queue over REST, its handlers and its worker."""
