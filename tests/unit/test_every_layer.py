"""Every technique on networks with every kind of layer: the same function, the right shapes."""

import inspect

import numpy as np
import pytest
from every_layer import NETWORKS, samples

from netreduce.lumping import lump
from netreduce.measures.cost import cost, layer_costs
from netreduce.network import layers as every
from netreduce.network.layers import Conv2D, Dense, DepthwiseConv2D, Layer

QUANTIZED = (Dense, Conv2D, DepthwiseConv2D)
each_network = pytest.mark.parametrize("name", NETWORKS)


def close(network, other, tolerance=1e-5):
    x = samples(network)
    expected = network.predict(x)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(other.predict(x), expected, atol=tolerance * scale, rtol=0)


def test_no_layer_is_left_out():
    classes = {
        kind
        for kind in map(every.__dict__.get, every.__all__)
        if inspect.isclass(kind) and issubclass(kind, Layer)
    }
    found = {type(layer) for network in NETWORKS.values() for layer in network.layers}
    assert found == classes - {every.Layer, every.Weighted}


@each_network
def test_costs_are_counted(name):
    network = NETWORKS[name]
    counted = cost(network)
    arrays = [array for layer in network.layers for array in layer.arrays().values()]
    assert counted.parameters == sum(array.size for array in arrays)
    assert len(layer_costs(network)) == sum(bool(layer.arrays()) for layer in network.layers)
    assert 0 < counted.nonzero_macs <= counted.macs


@each_network
@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_lumping_keeps_its_bound(name, tolerance):
    network = NETWORKS[name]
    lumping = lump(network, tolerance, verify=True)
    assert lumping.network.shapes[-1] == network.shapes[-1]
    assert not np.isnan(lumping.bound).any()
    if tolerance == 0:
        close(network, lumping.network)


@each_network
def test_lumping_by_activations_keeps_its_bound(name):
    network = NETWORKS[name]
    lump(network, 0.1, match="activations", samples=samples(network), verify=True)
