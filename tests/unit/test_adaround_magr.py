"""AdaRound and MagR against what their papers say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from netreduce.chains.steps import apply, parse_chain
from netreduce.errors import ParameterError
from netreduce.folding import fold_batch_norm
from netreduce.network import Network
from netreduce.network.layers import Conv2D, Dense, DepthwiseConv2D, Flatten
from netreduce.quantization import adaround as paper
from netreduce.quantization import quantize
from netreduce.quantization.adaround import adaround
from netreduce.quantization.alphabet import Alphabet
from netreduce.quantization.magr import magr, project, reduce_magnitude
from netreduce.quantization.msq import msq


def correlated(rng, samples, inputs):
    mixed = rng.standard_normal((inputs, inputs)) / np.sqrt(inputs)
    return rng.standard_normal((samples, inputs)) @ (mixed + np.eye(inputs))


def problem(seed, inputs=12, neurons=5, noise=0.1):
    rng = np.random.default_rng(seed)
    X = correlated(rng, 60, inputs)
    X_quantized = X + noise * rng.standard_normal(X.shape)
    weights = rng.standard_normal((1, inputs, neurons))
    return weights, (X_quantized.T @ X)[None], (X_quantized.T @ X_quantized)[None]


def neuron_errors(levels, weights, G, H):
    """‖Xw − X̃q‖² less ‖Xw‖² of every neuron."""
    return (levels * (H @ levels - 2 * G @ weights)).sum(axis=1)


def error(levels, weights, G, H):
    return neuron_errors(levels, weights, G, H).sum()


def with_autograd(weights, G, H, alphabet):
    """Nagel et al. (2020), equations 21 to 24, by PyTorch's gradients and its Adam."""
    w, G, H = (torch.tensor(array[0]) for array in (weights, G, H))
    scale, top = torch.tensor(alphabet.scale[0]), alphabet.top
    size = torch.diagonal(H).mean()
    below = torch.clamp(torch.floor((w / scale + top) / 2), 0, top - 1)
    share = ((w / scale + top) / 2 - below).clamp(0.01, 0.99)
    share = (share - paper.LOW) / (paper.HIGH - paper.LOW)
    v = torch.log(share / (1 - share)).requires_grad_()
    optimizer = torch.optim.Adam([v], paper.RATE, betas=paper.DECAYS, eps=paper.TINY)
    warm = round(paper.WARM_UP * paper.STEPS)
    for step in range(1, paper.STEPS + 1):
        h = torch.clamp(torch.sigmoid(v) * (paper.HIGH - paper.LOW) + paper.LOW, 0, 1)
        q = below + h - top / 2
        target = w / scale / 2
        loss = ((q * (H @ q)).sum() / 2 - (q * (G @ target)).sum()) / size
        if step > warm:
            share = (step - warm) / (paper.STEPS - warm)
            beta = paper.BETA[0] + (paper.BETA[1] - paper.BETA[0]) * share
            loss = loss + paper.PENALTY / 2 * (1 - (2 * h - 1).abs() ** beta).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (2 * (below + (h > 0.5)) - top).detach().numpy()


@pytest.mark.parametrize("count", [3, 4, 8])
def test_adaround_is_what_autograd_finds(count):
    weights, G, H = problem(count)
    alphabet = Alphabet(np.abs(weights).max(axis=1, keepdims=True) / (count - 1), count - 1)
    found = adaround(weights, G @ weights, H, alphabet)
    learned, nearest = with_autograd(weights, G, H, alphabet)[None], msq(weights, alphabet)
    better = [neuron_errors(alphabet.scale * codes, weights, G, H) for codes in (learned, nearest)]
    assert (found != nearest).any()
    np.testing.assert_array_equal(found, np.where(better[0] < better[1], learned, nearest))


@pytest.mark.parametrize("seed", range(8))
def test_no_neuron_is_worse_than_with_the_nearest_levels(seed):
    weights, G, H = problem(seed, inputs=2, neurons=20, noise=0.3)
    alphabet = Alphabet(np.abs(weights).max(axis=1, keepdims=True) / 2, 2)
    found, nearest = (
        method(weights, *given, alphabet)
        for method, given in ((adaround, (G @ weights, H)), (msq, ()))
    )
    errors = [neuron_errors(alphabet.scale * codes, weights, G, H) for codes in (found, nearest)]
    assert (errors[0] <= errors[1]).all()


@pytest.mark.parametrize("count", [3, 4, 16])
def test_adaround_stays_next_to_the_weights_and_lowers_the_error(count):
    problems = [problem(seed) for seed in range(8)]
    weights, G, H = (np.concatenate(arrays) for arrays in zip(*problems, strict=True))
    alphabet = Alphabet(np.asarray(2.0 / (count - 1)), count - 1)
    codes = adaround(weights, G @ weights, H, alphabet)
    inside = np.clip(weights / alphabet.scale, -alphabet.top, alphabet.top)
    assert (np.abs(codes - inside) < 2 + 1e-9).all()
    assert ((codes + alphabet.top) % 2 == 0).all()
    assert (np.abs(codes) <= alphabet.top).all()
    levels, nearest = (alphabet.scale * c for c in (codes, msq(weights, alphabet)))
    best = -(weights * (G @ weights)).sum()
    assert error(levels, weights, G, H) - best < 0.8 * (error(nearest, weights, G, H) - best)


def test_adaround_with_inputs_that_share_nothing_rounds_to_the_nearest_level():
    weights = np.random.default_rng(0).uniform(-1, 1, (2, 30, 7))
    H = np.stack([np.eye(30), 1e-12 * np.eye(30)])  # whatever the unit of the inputs
    alphabet = Alphabet(np.asarray(1 / 7), 7)
    np.testing.assert_array_equal(
        adaround(weights, H @ weights, H, alphabet), msq(weights, alphabet)
    )


def test_adaround_gives_dead_inputs_and_pruned_weights_code_0():
    weights, G, H = problem(1)
    H[:, 3], H[:, :, 3], G[:, 3] = 0, 0, 0
    pruned = np.zeros(weights.shape, bool)
    pruned[0, :4, 2] = True
    codes = adaround(weights, G @ weights, H, Alphabet(np.asarray(0.5), 3), pruned)
    assert (codes[0, 3] == 0).all() and (codes[pruned] == 0).all()
    assert (codes[0, 4:] != 0).all()
    dead = np.zeros_like(H)
    assert not adaround(weights, 0 * weights, dead, Alphabet(np.asarray(0.5), 3)).any()


def convolutional():
    rng = np.random.default_rng(3)
    return Network(
        [
            Conv2D(rng.normal(size=(3, 3, 4, 6)), activation="relu", groups=2),
            DepthwiseConv2D(rng.normal(size=(2, 2, 6, 1)), activation="relu"),
            Flatten(),
            Dense(rng.normal(size=(150, 3))),
        ],
        (8, 8, 8),
    )


def samples_for(network, count=40):
    return np.random.default_rng(4).random((count, *network.input_shape))


@pytest.mark.parametrize("conv", ["channel", "joint"])
def test_adaround_on_a_whole_network(conv):
    network = convolutional()
    x = samples_for(network)
    setting = {"bits": 3, "radius": "mse", "per_channel": True, "conv": conv}
    near, learned, again = (
        quantize(network, x, method, **setting) for method in ("msq", "adaround", "adaround")
    )

    def change(candidate):
        return ((candidate.predict(x) - network.predict(x)) ** 2).mean()

    assert change(learned) < change(near)
    for one, other in zip(learned.layers, again.layers, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_projection_is_the_nearest_point_of_the_ball(seed, inputs, radius):
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((2, inputs, 3)) * rng.integers(0, 2, (2, inputs, 3))
    found = project(v, np.full((2, 3), radius))
    assert (np.abs(found).sum(axis=1) <= radius + 1e-12).all()
    inside = np.abs(v).sum(axis=1) <= radius
    np.testing.assert_array_equal(found.transpose(0, 2, 1)[inside], v.transpose(0, 2, 1)[inside])
    # Optimality of a projection on a convex set: ⟨v − p, y − p⟩ ≤ 0 for its corners ±radius · e_i.
    away = v - found
    corners = radius * np.abs(away).max(axis=1) - (away * found).sum(axis=1)
    assert (corners <= 1e-9).all()


def objective(v, w, H, alpha):
    return 0.5 * (v - w) @ H @ (v - w) / np.linalg.eigvalsh(H)[-1] + alpha * np.abs(v).max()


def test_magr_minimizes_the_objective_of_the_paper():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((4, 6))  # with a null space
    H, w = X.T @ X, rng.standard_normal(6)
    found = reduce_magnitude(w[None, :, None], H[None], 0.05)[0, :, 0]
    alpha = 0.05 * np.abs(w).mean()
    # smooth form: a bound b ≥ |v_i| as another unknown
    best = minimize(
        lambda z: 0.5 * (z[:6] - w) @ H @ (z[:6] - w) / np.linalg.eigvalsh(H)[-1] + alpha * z[6],
        np.append(w, np.abs(w).max()),
        constraints=[
            {"type": "ineq", "fun": lambda z: z[6] - z[:6]},
            {"type": "ineq", "fun": lambda z: z[6] + z[:6]},
        ],
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    at_start, at_best = objective(w, w, H, alpha), objective(best.x[:6], w, H, alpha)
    assert objective(found, w, H, alpha) - at_best < 0.1 * (at_start - at_best)
    assert np.abs(found).max() < 0.8 * np.abs(w).max()


def test_magr_lowers_extremes_and_keeps_the_outputs():
    network = convolutional()
    x = samples_for(network)
    reduced = magr(network, x, 0.002)
    for before, after in zip(network.layers, reduced.layers, strict=True):
        if before.arrays():
            assert np.abs(after.kernel).max() < np.abs(before.kernel).max()
    outputs = network.predict(x)
    change = np.linalg.norm(reduced.predict(x) - outputs) / np.linalg.norm(outputs - outputs.mean())
    assert change < 0.1


def test_magr_leaves_pruned_and_quantized_weights():
    network = convolutional()
    kernel = np.array(network.layers[3].kernel)
    kernel[::2] = 0
    network = network.replace({3: network.layers[3].replace(kernel=kernel)})
    x = samples_for(network)
    network = quantize(network, x, "msq", bits=3, layers=[0])
    reduced = magr(network, x)
    np.testing.assert_array_equal(reduced.layers[3].kernel[::2], 0)
    assert (reduced.layers[3].kernel[1::2] != kernel[1::2]).any()
    assert reduced.layers[0] is network.layers[0]
    everything = quantize(network.replace({}), x, "msq", bits=3, layers=[1, 3])
    assert magr(everything, x) is everything


@pytest.mark.parametrize("strength", [-1, np.nan, "much"])
def test_magr_with_a_bad_strength(strength):
    network = convolutional()
    with pytest.raises(ParameterError, match="strength must be a number not below 0, found"):
        magr(network, samples_for(network), strength)


def test_magr_without_strength_changes_nothing():
    network = convolutional()
    reduced = magr(network, samples_for(network), 0.0)
    np.testing.assert_array_equal(reduced.layers[3].kernel, network.layers[3].kernel)


def test_both_as_steps_of_a_chain():
    network = fold_batch_norm(Network([Dense(np.random.default_rng(6).normal(size=(5, 4)))], (5,)))
    x = np.random.default_rng(7).random((60, 5))

    class Data:
        labelled, target, input_range = True, "classes", (0.0, 1.0)

        def images(self, split, count=None):
            return x[:count]

        def targets(self, split, count=None):
            return network.predict(x).argmax(axis=1)[:count]

    for step in parse_chain([{"magr": 0.02}, {"adaround": {"bits": 3, "per_channel": True}}]):
        network = apply(step, network, Data())
    assert network.layers[0].quantization.scale.size == 4
    with pytest.raises(ParameterError, match=r"magr-strength=0\.05 cannot follow adaround-bits=3"):
        parse_chain([{"adaround": 3}, "magr"])
