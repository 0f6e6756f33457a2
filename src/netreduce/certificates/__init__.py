"""Certificates: how far a reduced network can be from the original, on inputs nobody tried.

Both networks are bounded by linear relaxations at once, and what they have in common cancels.
"""

from .certificate import Certificate, Decision
from .core import certify, deviation_bound
from .vnnlib import Claim, read_vnnlib, write_vnnlib

__all__ = [
    "Certificate",
    "Claim",
    "Decision",
    "certify",
    "deviation_bound",
    "read_vnnlib",
    "write_vnnlib",
]
