"""How figures, tables and the thesis call things: bit widths, layers, steps and chains."""

from .steps import Step, parse_path

TERNARY = 1.58


def bits_name(bits: float | str) -> str:
    """ternary, 2 bits, 3 bits, ..."""
    return "ternary" if float(bits) == TERNARY else f"{float(bits):g} bits"


def network_name(name: str | float) -> str:
    """Name of a network in a table: analog, its bit width, or its chain in words."""
    return bits_name(name) if str(name)[0].isdigit() else chain_name(str(name))


def layer_name(layer: str) -> str:
    """dense_1 → dense 1."""
    return layer.replace("_", " ")


def step_name(step: Step) -> str:
    """A step of a chain: GPFQ 4 bits, GPFQ 4 bits as published, activations 8 bits, exact lumping,
    NNrelief 0.95.
    """
    if "bits" in step.parameters:
        bits = str(step.parameters["bits"])
        name = step.label.replace(f" {bits}", f" {bits_name(bits)}", 1)
        searched = ", alphabet scalar best"  # and nothing else said
        return f"{name.removesuffix(searched)} as published" if name.endswith(searched) else name
    if step.parameters == {"tolerance": 0}:
        return f"exact {step.technique.title.lower()}"
    return step.label


def steps(chain: str) -> tuple[Step, ...]:
    """The steps of a chain's path; none for the analog network."""
    return () if chain == "analog" else parse_path(chain)


def chain_name(chain: str) -> str:
    """A chain's path in words: NNrelief 0.95 → GPFQ 4 bits."""
    return " → ".join(map(step_name, steps(chain))) or chain
