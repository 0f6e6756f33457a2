"""netreduce: quantize, lump and prune trained neural networks, and compare what it costs.

Every technique is a function from a `Network` to a `Network`.
"""

from importlib import import_module

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
    "IntegerNetwork": "network.integers",
    "lump": "lumping",
    "Lumping": "lumping",
    "lump_neural_network": "lumping.dictionary",
    "prune": "pruning",
    "select": "pruning.selection",
    "certify": "certificates",
    "Certificate": "certificates",
    "fold_batch_norm": "folding",
    "cost": "measures.cost",
    "evaluate": "measures.evaluation",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'netreduce' has no attribute {name!r}")
    value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
