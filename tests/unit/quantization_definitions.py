"""The quantization methods written from their papers' definitions, one neuron at a time: what the
library is compared with.
"""

import numpy as np


def levels(radius, count):
    return radius * np.linspace(-1, 1, count)


def nearest(alphabet, z):
    return alphabet[np.argmin(np.abs(alphabet - z))]


def gpfq(w, X, X_quantized, alphabet, quantizer=None):
    """Lybrand and Saab (2021): the walk of one neuron, with the two special cases of the published
    program.
    """
    quantizer = quantizer or (lambda z: nearest(alphabet, z))
    u, q = np.zeros(len(X)), np.zeros(len(w))
    for t in range(len(w)):
        x, norm = X_quantized[:, t], np.linalg.norm(X_quantized[:, t])
        if norm >= 1e-16:
            q[t] = quantizer(w[t] if abs(x @ u) < 1e-10 else x @ (u + w[t] * X[:, t]) / norm**2)
        u += w[t] * X[:, t] - q[t] * x
    return q


def gptq(w, H, alphabet):
    """Frantar et al. (2023), step by step as in optimal brain quantization, without blocks or
    factorizations; H is damped already.
    """
    w, inverse, q = w.copy(), np.linalg.inv(H), np.zeros(len(w))
    for t in range(len(w)):
        q[t] = nearest(alphabet, w[t])
        w[t + 1 :] -= (w[t] - q[t]) / inverse[t, t] * inverse[t, t + 1 :]
        inverse -= np.outer(inverse[:, t], inverse[t]) / inverse[t, t]
    return q


def qronos(w, X, X_quantized, alphabet, penalty):
    """Zhang et al. (2025): each step rounds the best value of its weight and solves for the weights
    that remain. What inputs that are dead in the quantized network alone gave is to be made up for.
    """
    live, result = X_quantized.any(axis=0), np.zeros(len(w))
    target = np.concatenate([X @ w, np.sqrt(penalty) * w[live]])
    w, X_quantized = (
        w[live],
        np.vstack([X_quantized[:, live], np.sqrt(penalty) * np.eye(sum(live))]),
    )
    q = np.zeros(len(w))
    for t in range(len(w)):
        x = X_quantized[:, t]
        missing = target - X_quantized[:, :t] @ q[:t] - X_quantized[:, t + 1 :] @ w[t + 1 :]
        q[t] = nearest(alphabet, x @ missing / (x @ x))
        w[t + 1 :] = np.linalg.lstsq(
            X_quantized[:, t + 1 :], target - X_quantized[:, : t + 1] @ q[: t + 1], rcond=None
        )[0]
    result[live] = q
    return result


def each_neuron(function, weights, *arguments):
    """A neuron's function on every column of weights (inputs × neurons)."""
    return np.stack([function(w, *arguments) for w in weights.T], axis=1)
