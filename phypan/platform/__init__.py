"""The platform model."""
