"""A reduced network repaired layer by layer, each on what the repaired layers before it put out.

Nothing is trained: every repair is a mean, a variance or a least-squares solution on samples
without labels.
"""

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.folding import fold_batch_norm
from netreduce.network import INPUT, Network

from .batch_norm import estimate_batch_norm
from .bias import correct_bias
from .least_squares import fit_weights

REPAIRS = {
    "bias": correct_bias,
    "batch_norm": estimate_batch_norm,
    "least_squares": fit_weights,
}
SAMPLES = 2048  # the first ones; means and second moments need no more


def repair(network: Network, original: Network, samples: np.ndarray, what: str = "bias") -> Network:
    """Repair a reduced network, so that its layers put out on samples what those of the original
    do.

    Parameters
    ----------
    network : Network
        What became of `original`: quantized, pruned, lumped. Weights on a grid stay on it.
    original : Network
        Its layers, one by one, are those of `network`; that its batch normalization is folded there
        does not matter.
    samples : ndarray, shape (samples, *network.input_shape)
        The first 2,048 are used.
    what : {"bias", "batch_norm", "least_squares"}
        "bias": biases take up the difference of the mean outputs (Nagel et al., 2019).
        "batch_norm": means and variances of batch normalization are those of the reduced network.
        "least_squares": the weights that are not on a grid are those that come nearest to the
        original layer's outputs; a layer on a grid has its scales fitted instead, and all have
        their biases.

    Returns
    -------
    Network
        Layers whose outputs are not those of the original one by one, since neurons are gone, are
        left as they are.

    Raises
    ------
    ParameterError
        Another `what`, or layers that do not correspond.
    SampleError
        No samples, or of another shape; a single one for "batch_norm".

    Examples
    --------
    >>> from netreduce import Dense
    >>> original = Network([Dense([[1.2]]), Dense([[1.0]], [0.5])], (1,))
    >>> reduced = original.replace({0: Dense([[1.0]])})
    >>> samples = np.array([[1.0], [3.0]])
    >>> repaired = repair(reduced, original, samples)
    >>> repaired.predict(samples).ravel(), original.predict(samples).ravel()
    (array([1.9, 3.9]), array([1.7, 4.1]))
    """
    if what not in REPAIRS:
        raise ParameterError(f"what must be one of {', '.join(REPAIRS)}, found {what!r}")
    network.check_parameters()
    original = _corresponding(network, original)
    samples = network.check_samples(samples)[:SAMPLES].astype(network.dtype, copy=False)
    if not len(samples):
        raise SampleError("there are no samples")
    repaired = list(network.layers)
    values = {INPUT: (samples, samples)}  # of the repaired and of the original network
    for index, sources in enumerate(network.sources):
        inputs, targets = zip(*(values[source] for source in sources), strict=True)
        layer = repaired[index]
        if len(sources) == 1:
            layer = REPAIRS[what](layer, inputs[0], original.layers[index], targets[0])
        repaired[index] = layer
        values[index] = layer(*inputs), original.layers[index](*targets)
        for tensor in [t for t in values if not any(r > index for r in network.readers(t))]:
            del values[tensor]
    return network.replace(dict(enumerate(repaired)))


def _corresponding(network: Network, original: Network) -> Network:
    """The original with the layers of the network."""
    for candidate in (original, fold_batch_norm(original)):
        if (
            [type(layer) for layer in candidate.layers] == [type(layer) for layer in network.layers]
            and candidate.sources == network.sources
            and candidate.input_shape == network.input_shape
        ):
            return candidate
    raise ParameterError(
        "repair goes layer by layer: the original must have the layers of the network, found"
        f" {', '.join(original.names)} and {', '.join(network.names)}"
    )
