"""Prove how far a reduced network can be from its original.

`python examples/certify_a_reduction.py` makes a network with few inputs, so that claims about all
of them are decided. It needs netreduce alone, and a few seconds.
"""

import numpy as np

import netreduce as nr


def main() -> None:
    rng = np.random.default_rng(0)
    original = nr.Network(
        [
            nr.Dense(rng.normal(size=(4, 16)), rng.normal(size=16), "relu"),
            nr.Dense(rng.normal(size=(16, 2)) / 4),
        ],
        (4,),
    )
    samples = rng.random((500, 4))
    reduced = nr.quantize(original, samples, bits=8, radius="max")

    # Every input in [0, 1]⁴.
    certificate = nr.certify(original, reduced, input_range=(0, 1))
    print("no output moves by more than", certificate.bound.max().round(4))
    print("one that moves by", certificate.found.max().round(4), "is known")

    # Between the two lies the truth: claims are proved, or refuted by an input that shows it.
    largest = float(certificate.found.max())
    for epsilon in (1.05 * largest, 0.5 * largest):
        decision = certificate.holds(epsilon)
        print(f"within {epsilon:.4f} everywhere? {decision}")
        if decision == "no":
            x = decision.counterexample[None]
            moved = np.abs(reduced.predict(x) - original.predict(x)).max()
            print(f"  at {x[0].round(3)} an output moves by {moved:.4f}")

    # Balls around samples: much smaller sets, smaller bounds, and classes.
    near = nr.certify(original, reduced, around=samples[:100], radius=0.01, classes=True)
    print("within 0.01 of 100 samples no output moves by more than", near.bound.max().round(4))
    print(f"the same class on the whole ball, for certain: {near.same_class.sum()} of 100")


if __name__ == "__main__":
    main()
