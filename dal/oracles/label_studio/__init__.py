"""Asking people through a Label Studio server."""
