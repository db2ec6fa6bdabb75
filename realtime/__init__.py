"""Everything that is live: gateway, transport, fan-out, presence and the stats service."""
