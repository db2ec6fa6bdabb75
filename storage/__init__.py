"""The only folder that talks to MongoDB and Redis."""
