"""Training of a quantized network on its grid, in PyTorch: every weight stays a code of the same
alphabet.

The codes are trained by the straight-through estimator (Y. Bengio, N. Léonard and A. Courville,
Estimating or propagating gradients through stochastic neurons for conditional computation, 2013):
behind every weight stands a number in units of the scale, of which the network sees the nearest
code, and which moves as if it saw the number itself. Or the codes stay, and the scales alone are
trained, as factors.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from netreduce.errors import ParameterError
from netreduce.formats.pytorch.module import with_parameters_of
from netreduce.formats.tensors import to_tensors
from netreduce.network import Network
from netreduce.network.layers import Layer, Quantization, Weighted
from netreduce.training import check_count

from .descent import descend, hold_zeros
from .lesson import lesson
from .modules import in_pytorch, straight_through

CODE_RATE = 0.03  # of codes, in units of the scale: a code is 2 from the next one
RATE = 2e-3  # of everything else; scales as logarithms


def finetune(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray | None,
    epochs: int,
    scales: bool = False,
    *,
    original: Network | None = None,
    distil: float = 0.0,
    seed: int = 0,
) -> Network:
    """Train a quantized network on its grid, by Adam on the loss that the labels call for
    (`netreduce.training.loss_for`), with learning rates falling linearly to zero.

    Weights stay codes of their alphabets, and activations on grids stay on them. What is not on a
    grid is trained too, but zeros there stay zero, and so do the mean and variance of batch
    normalization. The same seed and number of threads give the same weights, bit for bit.

    Parameters
    ----------
    network : Network
        Quantized; ends as for `netreduce.training.retraining.retrain`.
    images : ndarray, shape (n, *network.input_shape)
    labels : ndarray of int, shape (n,), or of float, shape (n, outputs), or None
    epochs : int
    scales : bool
        Hold all codes and train the scales. Those of layers whose bias is on the grid stay.
    original, distil
        As for `netreduce.training.retraining.retrain`.
    seed : int
        Of the order of the images.

    Returns
    -------
    Network
        Codes that are 0 where 0 is no level stay 0; where it is one, those that are 0 are trained
        as all others, pruned or not.

    Raises
    ------
    ParameterError
        No layer is quantized; parameters that are NaN or infinite; an original that is missing, or
        of other inputs or outputs.
    SampleError
        Images that do not fit the network, or labels that do not fit the images.

    Examples
    --------
    >>> from netreduce import Dense, evaluate, quantize
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(500, 4)).astype("float32")
    >>> network = Network([Dense(rng.normal(size=(4, 3)).astype("float32"))], (4,))
    >>> y = network.predict(x).argmax(axis=1)
    >>> ternary = quantize(network, x, "msq", bits=1.58)
    >>> trained = finetune(ternary, x, y, epochs=20, scales=True)
    >>> np.array_equal(trained.layers[0].codes, ternary.layers[0].codes)
    True
    """
    check_count("epochs", epochs, 1)
    check_count("seed", seed, 0)
    lessons = lesson(network, images, labels, original, distil)
    grids = {
        index: layer
        for index, layer in enumerate(network.layers)
        if isinstance(layer, Weighted) and layer.quantization is not None
    }
    if not grids:
        raise ParameterError("no layer is quantized: fine-tuning on the grid needs one")
    model, plain = in_pytorch(lessons.network)
    trained = {
        index: _train_weight(model, plain, index, layer, scales) for index, layer in grids.items()
    }
    ours = [original for original in trained.values() if original is not None]
    others = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and not any(parameter is original for original in ours)
    ]
    hold_zeros(others)
    optimizer = torch.optim.Adam(
        [{"params": ours, "lr": RATE if scales else CODE_RATE}, {"params": others, "lr": RATE}]
    )
    descend(model, optimizer, lessons, epochs, seed)
    factors = {
        index: np.exp(original.detach().double().numpy())
        for index, original in trained.items()
        if scales and original is not None
    }
    for index in grids:
        child = model.get_submodule(plain.names[index])
        if parametrize.is_parametrized(child):
            parametrize.remove_parametrizations(child, "weight")
    found = with_parameters_of(model, plain)
    return network.replace(
        {
            index: _back(layer, found.layers[index], factors.get(index))
            for index, layer in enumerate(network.layers)
            if layer.arrays()
        }
    )


def finetune_on(
    network: Network,
    training: tuple[np.ndarray, np.ndarray],
    original: Network,
    epochs: int,
    scales: bool = False,
    distil: float = 0.0,
    seed: int = 0,
) -> Network:
    """`finetune` as a step of chains, behind a quantizer."""
    return finetune(
        network,
        *training,
        epochs=epochs,
        scales=scales,
        original=original,
        distil=distil,
        seed=seed,
    )


class OnGrid(nn.Module):
    """A weight, made of numbers in units of its scale: each counts as its nearest code."""

    scale: torch.Tensor
    held: torch.Tensor

    def __init__(self, scale: torch.Tensor, top: int, held: torch.Tensor) -> None:
        super().__init__()
        self.top = top
        self.register_buffer("scale", scale)
        self.register_buffer("held", held)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        inside = numbers.clamp(-self.top, self.top)
        codes = 2 * torch.round((inside + self.top) / 2) - self.top
        return self.scale * torch.where(self.held, 0, straight_through(inside, codes))

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / self.scale


class Scaled(nn.Module):
    """A weight, made of the logarithms of factors of its scales."""

    weight: torch.Tensor
    places: torch.Tensor

    def __init__(self, weight: torch.Tensor, places: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("places", places)  # which scale each weight has

    def forward(self, logarithms: torch.Tensor) -> torch.Tensor:
        return self.weight * torch.exp(logarithms)[self.places]

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.new_zeros(int(self.places.max()) + 1)


def _train_weight(
    model: nn.Module, plain: Network, index: int, layer: Weighted, scales: bool
) -> nn.Parameter | None:
    """Put in place of a weight on a grid what is trained; None where nothing is."""
    grid = layer.quantization
    assert grid is not None
    child = model.get_submodule(plain.names[index])
    weight = child.get_parameter("weight")
    if grid.quantized_bias:
        child.get_parameter("bias").requires_grad_(False)
    if scales and grid.quantized_bias:
        weight.requires_grad_(False)
        return None
    made: nn.Module
    if scales:
        places = np.arange(grid.scale.size, dtype=np.float64).reshape(grid.scale.shape)
        made = Scaled(weight.detach().clone(), _in_pytorch(plain, index, places).long())
    else:
        top = round(2**grid.bits) - 1
        codes = np.asarray(layer.codes)
        held = (codes == 0) & bool(top % 2)
        scale = _in_pytorch(plain, index, grid.scale).to(weight.dtype)
        made = OnGrid(scale, top, _in_pytorch(plain, index, held.astype(np.float64)).bool())
    parametrize.register_parametrization(child, "weight", made)
    return child.get_parameter("parametrizations.weight.original")


def _in_pytorch(network: Network, index: int, numbers: np.ndarray) -> torch.Tensor:
    """Numbers, one for each weight or broadcasting to them, in the order of PyTorch's weight."""
    layer = network.layers[index]
    assert isinstance(layer, Weighted)
    kernel = np.broadcast_to(numbers, layer.kernel.shape).astype(np.float64)
    given = to_tensors(network.replace({index: layer.replace(kernel=kernel, quantization=None)}))
    return torch.from_numpy(given[f"{network.names[index]}.weight"].copy())


def _back(layer: Layer, trained: Layer, factor: np.ndarray | None) -> Layer:
    """The layer with trained parameters, weights exactly on their grid."""
    changes: Mapping[str, object] = trained.arrays()
    grid = getattr(layer, "quantization", None)
    if grid is None:
        return layer.replace(**changes)
    assert isinstance(layer, Weighted) and isinstance(trained, Weighted)
    scale = grid.scale if factor is None else grid.scale * factor.reshape(grid.scale.shape)
    codes = np.rint(trained.kernel / scale) if factor is None else layer.codes
    return layer.replace(
        kernel=(scale * codes).astype(layer.kernel.dtype),
        bias=trained.bias,
        quantization=Quantization(scale, grid.bits, grid.quantized_bias),
    )
