"""The border to the command line."""
