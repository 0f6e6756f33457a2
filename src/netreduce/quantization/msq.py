"""Memoryless scalar quantization: every weight goes to its nearest level."""


def msq(weights, alphabet):
    """Codes of the nearest levels; a function of the weights alone."""
    return alphabet.nearest(weights)
