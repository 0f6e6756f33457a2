"""What a certificate says, and how it is written down."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netreduce.errors import ModelFileError, ParameterError

from .problem import Problem, is_number
from .search import decide, first_points

FORMAT = "netreduce-certificate-1"


class Decision(str):
    """Whether a claim holds: "yes", "no" or "undecided".

    Attributes
    ----------
    epsilon : float
        The claim: no output moves by more.
    counterexample : ndarray or None
        Where the answer is "no": an input of the set on which an output moves by more.
    sample : int or None
        The ball it lies in.
    seconds : float
    boxes : int
        How many parts of the set were bounded.
    """

    epsilon: float
    counterexample: np.ndarray | None
    sample: int | None
    seconds: float
    boxes: int

    def __new__(
        cls,
        answer: str,
        epsilon: float,
        counterexample: np.ndarray | None = None,
        sample: int | None = None,
        seconds: float = 0.0,
        boxes: int = 0,
    ) -> "Decision":
        decision = super().__new__(cls, answer)
        decision.epsilon, decision.counterexample = epsilon, counterexample
        decision.sample, decision.seconds, decision.boxes = sample, seconds, boxes
        return decision


@dataclass
class Certificate:
    """How far a reduced network can be from the original on a set of inputs.

    Over balls, arrays have an axis of samples in front.

    Attributes
    ----------
    bound : ndarray, shape (*outputs,) or (samples, *outputs)
        No input of the set moves an output by more, in real arithmetic.
    rounding : ndarray, as bound
        What evaluating both networks in their floating-point type, in any order of summation, can
        add to that.
    found : ndarray, as bound
        The largest deviation that was found, as the networks compute it: at most bound + rounding.
    witness : ndarray, shape (*input_shape,) or (samples, *input_shape)
        The input with the largest deviation of all outputs.
    same_class : ndarray of bool, shape (samples,), or bool, or None
        Whether both networks certainly give one and the same class on the whole set (each ball).
    class_differs : ndarray of bool, shape (samples,), or bool, or None
        Whether an input was found to which they give different classes.
    radius : float or None
        Of the balls.
    seconds : float
    boxes : int
        Parts of the set, and cases of neurons, that were bounded.
    notes : tuple of str
        Where less than the usual was done, and why.
    """

    bound: np.ndarray
    rounding: np.ndarray
    found: np.ndarray
    witness: np.ndarray
    same_class: np.ndarray | None = None
    class_differs: np.ndarray | None = None
    radius: float | None = None
    seconds: float = 0.0
    boxes: int = 0
    notes: tuple[str, ...] = ()
    limit: float | None = None
    decisions: dict[float, Decision] = field(default_factory=dict)
    problem: Problem | None = field(default=None, repr=False, compare=False)

    def holds(self, epsilon: float) -> Decision:
        """Whether no output moves by more than epsilon, in real arithmetic, anywhere in the set.

        Where the numbers at hand do not say, and the networks are (not after reading from JSON),
        the set is cut into boxes until they do, as long as `seconds` of certify allow. The
        certificate remembers the answer.

        Returns
        -------
        Decision
            "yes", "no" or "undecided"; "no" with a counterexample.

        Raises
        ------
        ParameterError
            epsilon is not a finite number ≥ 0.
        """
        if not (is_number(epsilon) and 0 <= epsilon < np.inf):
            raise ParameterError(f"epsilon must be a finite number ≥ 0, found {epsilon!r}")
        epsilon = float(epsilon)
        if epsilon not in self.decisions:
            self.decisions[epsilon] = self._decide(epsilon)
        return self.decisions[epsilon]

    def _decide(self, epsilon: float) -> Decision:
        start = time.monotonic()
        deadline = np.inf if self.limit is None else start + max(0.0, self.limit - self.seconds)
        balls = self.radius is not None
        bound = self.bound if balls else self.bound[None]
        witness = self.witness if balls else self.witness[None]
        worst = bound.reshape(len(bound), -1).max(axis=1)
        found, rounding = (a if balls else a[None] for a in (self.found, self.rounding))
        rounding = np.where(np.isfinite(rounding), rounding, np.inf)
        found = np.where(np.isfinite(rounding), found, 0.0)  # what overflows says nothing
        surely = (found - rounding).reshape(len(bound), -1).max(axis=1)
        if (surely > epsilon).any():
            sample = int(surely.argmax())
            return Decision("no", epsilon, witness[sample], sample if balls else None)
        answer, boxes = "yes", 0
        for sample in map(int, np.nonzero(~(worst <= epsilon))[0]):
            if self.problem is None:
                answer = "undecided"
                break
            points = [witness[sample][None]]
            if boxes == 0 or time.monotonic() < deadline:
                points.append(first_points(self.problem, np.array([sample]))[0])
            search = decide(
                self.problem, sample, epsilon, deadline, np.concatenate(points).astype(float)
            )
            boxes += search.boxes
            if search.answer == "no":
                return Decision(
                    "no",
                    epsilon,
                    search.witness,
                    sample if balls else None,
                    time.monotonic() - start,
                    boxes,
                )
            if search.answer == "undecided":
                answer = "undecided"
        return Decision(answer, epsilon, None, None, time.monotonic() - start, boxes)

    def to_json(self) -> str:
        """The certificate as JSON, numbers to the last digit; `from_json` reads it."""
        record = {
            "format": FORMAT,
            **{key: _plain(getattr(self, key)) for key in _FIELDS},
            "decisions": [
                {
                    "answer": str(decision),
                    **{key: _plain(getattr(decision, key)) for key in _DECISION},
                }
                for decision in self.decisions.values()
            ],
        }
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Certificate":
        """The certificate that `to_json` wrote.

        Raises
        ------
        ModelFileError
            The text is no certificate: says what is wrong.
        """
        try:
            record = json.loads(text)
        except ValueError as error:
            raise ModelFileError(f"a certificate must be JSON: {error}") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else type(record).__name__
            raise ModelFileError(f"a certificate has the format {FORMAT!r}, found {found!r}")
        missing = [key for key in (*_FIELDS, "decisions") if key not in record]
        if missing:
            raise ModelFileError(f"the certificate lacks {', '.join(missing)}")
        try:
            values = {key: _FIELDS[key](record[key]) for key in _FIELDS}
            decisions = {
                float(d["epsilon"]): Decision(
                    d["answer"], **{key: _DECISION[key](d[key]) for key in _DECISION}
                )
                for d in record["decisions"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"the certificate is damaged: {error!r}") from None
        return cls(**values, decisions=decisions)


def _plain(value: Any) -> Any:
    """As JSON has it: infinity, which JSON lacks, as a string."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _array(value: list) -> np.ndarray:
    return np.array(value, np.float64)


def _flags(value: list | None) -> np.ndarray | None:
    return None if value is None else np.array(value, bool)


def _optional(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The reader of a value that may be null."""
    return lambda value: None if value is None else kind(value)


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "bound": _array,
    "rounding": _array,
    "found": _array,
    "witness": _array,
    "same_class": _flags,
    "class_differs": _flags,
    "radius": _optional(float),
    "seconds": float,
    "boxes": int,
    "notes": tuple,
    "limit": _optional(float),
}
_DECISION: dict[str, Callable[[Any], Any]] = {
    "epsilon": float,
    "counterexample": _optional(_array),
    "sample": _optional(int),
    "seconds": float,
    "boxes": int,
}
