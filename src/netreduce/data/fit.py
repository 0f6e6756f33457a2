"""Networks for a dataset: of an architecture, or brought in from elsewhere."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from netreduce.data import Dataset
from netreduce.errors import ShapeError
from netreduce.network import Network
from netreduce.network.architectures import build
from netreduce.network.layers import Flatten, Layer, Normalization, Rescaling


def network_for(
    data: Dataset, architecture: Mapping[str, Any] | str, seed: int | None = None
) -> Network:
    """A network of an architecture for a dataset's samples and targets.

    Parameters
    ----------
    data : Dataset
    architecture : dict or str
        As `netreduce.network.architectures.build` takes it; `classes` in it is the number of
        outputs: 1 for two classes by one logit, or what a dataset without labels does not say.
    seed : int, optional
        Draws the initial weights; zeros without.

    Raises
    ------
    ShapeError
        Neither the dataset nor the architecture says how many outputs there are, or they do not
        agree.
    """
    description: dict[str, Any] = (
        {"name": architecture} if isinstance(architecture, str) else dict(architecture)
    )
    outputs = description.pop("classes", data.outputs)
    if outputs is None:
        raise ShapeError(
            f"{data.path}: the data have no labels, so they do not say how many outputs a network"
            " has; say classes: <number> in its architecture"
        )
    network = build(description, data.image_shape, outputs, seed=seed)
    _check_outputs(network.shapes[-1], data)
    return network


def fit_to_dataset(network: Network, data: Dataset) -> Network:
    """A network that takes a dataset's samples: itself, or behind a Flatten if it takes flat
    vectors.

    Parameters
    ----------
    network : Network
    data : Dataset
        The network must have one output for each class (or one for two classes), for each number,
        or, of an autoencoder, for each value of its input.

    Raises
    ------
    ShapeError
        When the input shape or the number of outputs does not fit.
    """
    _check_outputs(network.shapes[-1], data)
    shape = data.image_shape
    if network.input_shape == shape:
        return network
    if network.input_shape != (prod(shape),):
        allowed = f"{shape} or ({prod(shape)},)" if len(shape) > 1 else f"{shape}"
        samples = "images" if len(shape) == 3 else "samples"
        raise ShapeError(
            f"the dataset has {samples} of shape {shape}, so the network must take"
            f" {allowed}, found {network.input_shape}"
        )
    sources = [(-1,), *(tuple(source + 1 for source in sources) for sources in network.sources)]
    return Network([Flatten(), *network.layers], shape, sources)


def with_preprocessing(network: Network, data: Dataset) -> Network:
    """A network that takes a dataset's values as they are, before preprocessing: with layers in
    front that do it, so that an exported file needs nothing besides.

    Parameters
    ----------
    network : Network
        Takes the dataset's preprocessed samples.
    data : Dataset

    Returns
    -------
    Network
        Behind a Rescaling and, where there is a mean or a deviation, a Normalization.
    """
    done = data.preprocessing
    front: list[Layer] = [
        Rescaling(np.array(1 / done.divisor, np.float32), np.array(0, np.float32))
    ]
    if np.any(done.mean) or np.any(np.asarray(done.std) != 1):
        mean, std = np.broadcast_arrays(done.mean, done.std)
        front.append(Normalization(mean.astype(np.float32), (std**2).astype(np.float32)))
    sources: list[tuple[int, ...]] = [(index - 1,) for index in range(len(front))]
    sources += [tuple(source + len(front) for source in read) for read in network.sources or ()]
    return Network([*front, *network.layers], network.input_shape, sources)


def _check_outputs(found: tuple[int, ...], data: Dataset) -> None:
    outputs = data.outputs
    if data.target == "input":
        if prod(found) != outputs:
            raise ShapeError(
                f"an autoencoder for samples of shape {data.image_shape} must have {outputs}"
                f" outputs, found outputs of shape {found}"
            )
    elif outputs is not None and found != (outputs,):
        if (data.target, outputs, found) == ("classes", 2, (1,)):
            return
        has = f"{outputs} {'classes' if data.target == 'classes' else 'numbers for each sample'}"
        raise ShapeError(
            f"the dataset has {has}, so the network must have outputs of shape ({outputs},), found"
            f" {found}"
        )
    elif data.target == "classes" and len(found) != 1:
        raise ShapeError(f"a network for classes must have one score for each, found {found}")
