"""The errors of netreduce: each names what is wrong, what was found and what was expected."""


class NetreduceError(Exception):
    """Base of every error that netreduce raises on purpose."""


class ModelFileError(NetreduceError):
    """A network file cannot be read or written: the message names the file."""


class UnsupportedLayerError(NetreduceError):
    """A layer, activation or topology that cannot be handled: the message names the layer."""


class ShapeError(NetreduceError, ValueError):
    """Arrays or layers whose shapes do not fit together."""


class ParameterError(NetreduceError, ValueError):
    """An argument outside its allowed range: the message names the argument and the range."""


class SampleError(NetreduceError, ValueError):
    """Samples that cannot be used: wrong shape, not finite, empty, or not iterable twice."""


class DataError(NetreduceError):
    """A dataset that cannot be had: the message lists every source with its reason."""


class VerificationError(NetreduceError):
    """A self-check that failed: the reduced network does not do what was promised."""
