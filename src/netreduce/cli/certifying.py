"""netreduce certify."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from netreduce.certificates import certify as certified
from netreduce.data.fit import fit_to_dataset
from netreduce.errors import ParameterError
from netreduce.files import replacing

from .app import DataOptions, OutputOptions, ReadOptions
from .files import opened, read_network, refuse_existing
from .inspecting import report


def certify(
    original: Path,
    reduced: Path,
    around: Path | None,
    radius: str | None,
    images: int,
    ends: tuple[float | None, float | None],
    epsilon: float | None,
    seconds: float | None,
    target: Path | None,
    read: ReadOptions,
    options: DataOptions,
    output: OutputOptions,
) -> None:
    if (around is None) != (radius is None):
        raise ParameterError("--around and --radius go together: data, and the radius of the balls")
    if target is not None:
        refuse_existing(target, output)
    networks = read_network(original, read), read_network(reduced, read)
    inputs = networks[0].input_shape
    low, high = ends
    samples: np.ndarray | None = None
    data_range: tuple[Any, Any] = (0.0, 1.0)
    if around is not None:
        with opened(around, options) as dataset:
            fit_to_dataset(networks[0], dataset)
            samples = dataset.images("test", images).reshape(-1, *inputs)
            least, most = dataset.input_range
            data_range = (least.reshape(inputs), most.reshape(inputs))
    box = (data_range[0] if low is None else low, data_range[1] if high is None else high)
    certificate = certified(
        *networks,
        box,
        around=samples,
        radius=None if radius is None else number(radius, "--radius"),
        seconds=seconds,
        classes=samples is not None and len(networks[0].shapes[-1]) == 1,
    )
    decision = None if epsilon is None else str(certificate.holds(epsilon))
    if target is not None:
        with replacing(target) as temporary:
            temporary.write_text(certificate.to_json(), encoding="utf-8")
    row: dict[str, object] = {
        "bound": float(
            np.median(certificate.bound.reshape(-1, certificate.bound.shape[-1]).max(1))
        ),
        "found": float(
            np.median(certificate.found.reshape(-1, certificate.found.shape[-1]).max(1))
        ),
        "rounding": float(certificate.rounding.max()),
    }
    if samples is not None:
        row["samples"] = len(samples)
        if certificate.same_class is not None and certificate.class_differs is not None:
            row["certified_same_class"] = float(np.mean(certificate.same_class))
            row["class_differs"] = float(np.mean(certificate.class_differs))
    row |= {f"holds_{epsilon:g}": decision} if epsilon is not None else {}
    report(
        {**row, "seconds": certificate.seconds, "notes": "; ".join(certificate.notes) or None},
        output,
    )


def number(text: str, name: str) -> float:
    """A number, or a fraction such as 2/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ParameterError(
            f"{name}: expected a number such as 0.01 or 2/255, found {text!r}"
        ) from None
