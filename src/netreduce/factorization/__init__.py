"""Factorization: a layer becomes two layers that are smaller together."""

from .lowrank import factorize, lowrank

__all__ = ["factorize", "lowrank"]
