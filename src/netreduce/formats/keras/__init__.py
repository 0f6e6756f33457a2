"""Keras: .h5 and .keras files, weight files, and live models."""
