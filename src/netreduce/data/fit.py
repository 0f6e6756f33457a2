"""Whether a network brought in from elsewhere fits a dataset."""

from math import prod

from netreduce.errors import ShapeError
from netreduce.network import Network
from netreduce.network.layers import Flatten


def fit_to_dataset(network: Network, image_shape: tuple[int, ...], classes: int) -> Network:
    """A network that takes a dataset's images: itself, or behind a Flatten if it takes flat
    vectors.

    Parameters
    ----------
    network : Network
    image_shape : tuple of int
        (height, width, channels).
    classes : int
        Number of classes: the network must have one output for each.

    Raises
    ------
    ShapeError
        When the input shape or the number of outputs does not fit.
    """
    if network.shapes[-1] != (classes,):
        raise ShapeError(
            f"the dataset has {classes} classes, so the network must have outputs of shape"
            f" ({classes},), found {network.shapes[-1]}"
        )
    if network.input_shape == image_shape:
        return network
    if network.input_shape != (prod(image_shape),):
        raise ShapeError(
            f"the dataset has images of shape {image_shape}, so the network must take {image_shape}"
            f" or ({prod(image_shape)},), found {network.input_shape}"
        )
    sources = [(-1,), *(tuple(source + 1 for source in sources) for sources in network.sources)]
    return Network([Flatten(), *network.layers], image_shape, sources)
