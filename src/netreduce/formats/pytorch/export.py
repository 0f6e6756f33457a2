"""PyTorch programs as torch.export makes them: from a live module, and from .pt2 files.

A .pt2 file is an archive of the graph as JSON and of the tensors as raw numbers. It is read as
that: no code of the file, or of its pickles, runs.
"""

import copy
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from netreduce.errors import UnsupportedLayerError, VerificationError
from netreduce.formats.guard import reading
from netreduce.network import Network

from .graph import Converter
from .program import Program

if TYPE_CHECKING:
    import torch
    from torch import nn

AGREEMENT = 1e-4  # of the network and the module, relative to the largest output


def from_torch(module: "nn.Module", example: "torch.Tensor") -> Network:
    """The network that a PyTorch module computes in evaluation mode.

    The module is traced by `torch.export`; it stays as it is, parameters that two layers share are
    copied.

    Parameters
    ----------
    module : torch.nn.Module
        Of one input and one output, both tensors whose first axis counts samples.
    example : torch.Tensor
        A batch of inputs. Its shape, the batch apart, is the one that the network reads. Where it
        is in half precision, the network computes with the module's parameters in float32.

    Returns
    -------
    Network
        Images are channels last inside and at its border: for inputs (samples, channels, height,
        width) of the module the network has `input_shape` (height, width, channels), and likewise
        (length, channels) for one-dimensional convolutions. Vectors, flattened images among them,
        keep PyTorch's order.

    Raises
    ------
    UnsupportedLayerError
        An operation that `Network` cannot express: names the node, the operation and its shapes.
    VerificationError
        The network and the module differ on the example by more than 10⁻⁴ of the largest output.

    Examples
    --------
    >>> import torch
    >>> import netreduce as nr
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
    ...     torch.nn.BatchNorm2d(8),
    ...     torch.nn.ReLU(),
    ...     torch.nn.Flatten(),
    ...     torch.nn.Linear(8 * 16 * 16, 10),
    ... )
    >>> network = nr.from_torch(module, torch.zeros(1, 3, 32, 32))
    >>> network.input_shape, network.names[:3]
    ((32, 32, 3), ('conv2d_1', 'batch_normalization_1', 'activation_1'))
    """
    import torch

    if not isinstance(example, torch.Tensor) or example.ndim < 2:
        found = tuple(example.shape) if isinstance(example, torch.Tensor) else type(example)
        raise UnsupportedLayerError(
            f"from_torch: the example must be a tensor of samples, found {found}"
        )
    if example.dtype in (torch.float16, torch.bfloat16):
        module, example = copy.deepcopy(module).float(), example.float()
    batch = torch.cat([example, example]) if len(example) == 1 else example
    exported, expected = _exported(module, batch)
    content = io.BytesIO()
    torch.export.save(exported, content)
    with zipfile.ZipFile(content) as archive:
        converter = _converted(archive)
    network = converter.network()
    computed = converter.outputs(network.predict(converter.inputs(batch.numpy(force=True))))
    _check_agreement(computed, expected.double().numpy(force=True))
    return network


def _exported(
    module: "nn.Module", batch: "torch.Tensor"
) -> tuple["torch.export.ExportedProgram", "torch.Tensor"]:
    """The program of a module in evaluation mode without changes in place, and its outputs."""
    import torch

    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        with torch.no_grad():
            expected = module(batch)
            exported = torch.export.export(module, (batch,))
            if any("_." in str(node.target) for node in exported.graph.nodes):
                exported = exported.run_decompositions({})
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedLayerError(
            f"from_torch: torch.export cannot trace the module ({reason})"
        ) from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    return exported, expected


def read_network(path: Path) -> Network:
    """Read a network from a .pt2 file; images are channels last, as in `from_torch`."""
    with reading(path), zipfile.ZipFile(path) as archive:
        return _converted(archive).network()


def _check_agreement(found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape != expected.shape:
        raise VerificationError(
            f"from_torch: the network computes outputs of shape {found.shape}, the module"
            f" {expected.shape}"
        )
    scale = max(np.abs(expected).max(initial=0), np.finfo(np.float32).tiny)
    difference = np.abs(found - expected).max(initial=0) / scale
    if not difference <= AGREEMENT:  # NaN is no agreement
        raise VerificationError(
            f"from_torch: on the example the network and the module differ by {difference:.2g} of"
            f" the largest output, more than {AGREEMENT:g}"
        )


def _converted(archive: zipfile.ZipFile) -> Converter:
    program = Program(archive)
    converter = Converter(program)
    for node in program.nodes:
        converter.add(node)
    return converter
