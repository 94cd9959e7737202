"""Pictures in files: found, looked at, decoded once, and read by rows."""
