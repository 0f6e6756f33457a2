"""The operators of ONNX that networks are read from."""

from .elementwise import ELEMENTWISE
from .graph import Operator
from .linear import LINEAR
from .products import PRODUCTS
from .shapes import SHAPES
from .windows import WINDOWS

OPERATORS: dict[str, Operator] = {**ELEMENTWISE, **LINEAR, **PRODUCTS, **SHAPES, **WINDOWS}
