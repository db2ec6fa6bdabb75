"""What livetally claims about speed, measured beside its peers (README: Performance)."""
