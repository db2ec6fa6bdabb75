"""Resources: documents that users keep."""
