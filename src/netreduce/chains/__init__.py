"""Chains of reduction techniques: the table of techniques, the steps of a chain, and how both are
called.
"""
