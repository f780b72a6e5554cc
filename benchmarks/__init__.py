"""One script per claim of the README."""
