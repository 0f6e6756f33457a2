"""netreduce: quantize, lump and prune trained neural networks, and compare what it costs.

Every technique is a function from a `Network` to a `Network`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name → module that holds it. Loaded on first use, so that `import netreduce` stays quick.
_PUBLIC = {
    **dict.fromkeys(
        (
            "NetreduceError",
            "ModelFileError",
            "UnsupportedLayerError",
            "ShapeError",
            "ParameterError",
            "SampleError",
            "DataError",
            "VerificationError",
        ),
        "errors",
    ),
    **dict.fromkeys(
        (
            "Layer",
            "Quantization",
            "Dense",
            "Conv2D",
            "DepthwiseConv2D",
            "Conv2DTranspose",
            "BatchNormalization",
            "Normalization",
            "Rescaling",
            "MaxPooling2D",
            "AveragePooling2D",
            "GlobalAveragePooling2D",
            "GlobalMaxPooling2D",
            "ZeroPadding2D",
            "Cropping2D",
            "UpSampling2D",
            "Flatten",
            "Reshape",
            "Permute",
            "Dropout",
            "Activation",
            "ActivationGrid",
            "PReLU",
            "Add",
            "Subtract",
            "Multiply",
            "Concatenate",
        ),
        "network.layers",
    ),
    "Network": "network",
    "from_keras": "formats.keras.model",
    "load": "formats",
    "from_torch": "formats.pytorch.export",
    "save": "formats",
    "export": "formats.export",
    "quantize": "quantization",
    "quantize_many": "quantization",
    "quantize_activations": "quantization.activations",
    "allocate_bits": "quantization.allocation",
    "magr": "quantization.magr",
    "repair": "repair",
    "equalize": "folding",
    "IntegerNetwork": "network.integers",
    "lump": "lumping",
    "Lumping": "lumping",
    "lump_neural_network": "lumping.dictionary",
    "prune": "pruning",
    "select": "pruning.selection",
    "fold_neurons": "pruning.fold_neurons",
    "lossless": "pruning.lossless",
    "retrain": "training.retraining",
    "certify": "certificates",
    "Certificate": "certificates",
    "fold_batch_norm": "folding",
    "cost": "measures.cost",
    "evaluate": "measures.evaluation",
}

__all__ = list(_PUBLIC)


if TYPE_CHECKING:  # the same names for editors and type checkers, which do not run __getattr__
    from .certificates import Certificate as Certificate
    from .certificates import certify as certify
    from .errors import DataError as DataError
    from .errors import ModelFileError as ModelFileError
    from .errors import NetreduceError as NetreduceError
    from .errors import ParameterError as ParameterError
    from .errors import SampleError as SampleError
    from .errors import ShapeError as ShapeError
    from .errors import UnsupportedLayerError as UnsupportedLayerError
    from .errors import VerificationError as VerificationError
    from .folding import equalize as equalize
    from .folding import fold_batch_norm as fold_batch_norm
    from .formats import load as load
    from .formats import save as save
    from .formats.export import export as export
    from .formats.keras.model import from_keras as from_keras
    from .formats.pytorch.export import from_torch as from_torch
    from .lumping import Lumping as Lumping
    from .lumping import lump as lump
    from .lumping.dictionary import lump_neural_network as lump_neural_network
    from .measures.cost import cost as cost
    from .measures.evaluation import evaluate as evaluate
    from .network import Network as Network
    from .network.integers import IntegerNetwork as IntegerNetwork
    from .network.layers import Activation as Activation
    from .network.layers import ActivationGrid as ActivationGrid
    from .network.layers import Add as Add
    from .network.layers import AveragePooling2D as AveragePooling2D
    from .network.layers import BatchNormalization as BatchNormalization
    from .network.layers import Concatenate as Concatenate
    from .network.layers import Conv2D as Conv2D
    from .network.layers import Conv2DTranspose as Conv2DTranspose
    from .network.layers import Cropping2D as Cropping2D
    from .network.layers import Dense as Dense
    from .network.layers import DepthwiseConv2D as DepthwiseConv2D
    from .network.layers import Dropout as Dropout
    from .network.layers import Flatten as Flatten
    from .network.layers import GlobalAveragePooling2D as GlobalAveragePooling2D
    from .network.layers import GlobalMaxPooling2D as GlobalMaxPooling2D
    from .network.layers import Layer as Layer
    from .network.layers import MaxPooling2D as MaxPooling2D
    from .network.layers import Multiply as Multiply
    from .network.layers import Normalization as Normalization
    from .network.layers import Permute as Permute
    from .network.layers import PReLU as PReLU
    from .network.layers import Quantization as Quantization
    from .network.layers import Rescaling as Rescaling
    from .network.layers import Reshape as Reshape
    from .network.layers import Subtract as Subtract
    from .network.layers import UpSampling2D as UpSampling2D
    from .network.layers import ZeroPadding2D as ZeroPadding2D
    from .pruning import prune as prune
    from .pruning.fold_neurons import fold_neurons as fold_neurons
    from .pruning.lossless import lossless as lossless
    from .pruning.selection import select as select
    from .quantization import quantize as quantize
    from .quantization import quantize_many as quantize_many
    from .quantization.activations import quantize_activations as quantize_activations
    from .quantization.allocation import allocate_bits as allocate_bits
    from .quantization.magr import magr as magr
    from .repair import repair as repair
    from .training.retraining import retrain as retrain


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'netreduce' has no attribute {name!r}")
    value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
