"""The aiohttp application: settings, wiring, auth, routes, metrics and the command line."""
