"""Certificates: claims decided on ACAS Xu, classes certified on images, beside intervals.

    python benchmarks/certify.py acasxu ../shared/acasxu
    python benchmarks/certify.py balls original.h5 reduced.h5 data.npz --radius 4 --each 2
    python benchmarks/certify.py radius networks/cifar10.h5 reduced.h5 data.npz --record known.json

acasxu: the pairs of instances.csv (|g − f| ≤ ε over a box); answer, seconds, boxes.
balls: around test images, radius in 1/255; share with a certified equal class, median bound on any
score, median of bound / found, seconds an image; beside it what intervals give. With --each, so
many seconds for every image, in which classes are searched for in as many cases as there is time.
radius: by bisection, the largest radius at which both networks certainly give one class around half
of the test images that the first one classifies correctly; what is known of each image is kept in a
file, so that it can be stopped (--seconds) and go on.
All print Markdown tables. Wall clock, and processor time of all threads beside it.
"""

import argparse
import csv
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import netreduce as nr
from netreduce.certificates.bounds import Relaxation
from netreduce.certificates.core import _deviation
from netreduce.certificates.operators import Rows
from netreduce.certificates.problem import balls as balls_of
from netreduce.certificates.problem import problem_of
from netreduce.certificates.program import compile_networks
from netreduce.formats.onnx.reader import read_network

ACASXU_BOX = [0.6, -0.5, -0.5, 0.45, -0.45], [0.679857769, 0.5, 0.5, 0.5, -0.45]
MOST, SMALLEST = 0.4, 0.01  # of the radii tried, and of what remains open, in 1/255


def acasxu(folder):
    print("| instance | expected | answer | seconds | CPU | boxes |\n|---|---|---|---|---|---|")
    with (folder / "instances.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        networks = [read_network(folder / row[key]) for key in ("original", "reduced")]
        box = [np.reshape(end, networks[0].input_shape) for end in ACASXU_BOX]
        start, cpu = time.perf_counter(), time.process_time()
        certificate = nr.certify(*networks, box, seconds=float(row["seconds"]))
        decision = certificate.holds(float(row["epsilon"]))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"| {row['instance']} | {row['answer']} | {decision} | {seconds:.2f} | {cpu:.2f} |"
            f" {decision.boxes} |",
            flush=True,
        )


def images_of(path, original, count):
    """The first test images, as the network reads them, and their labels."""
    data = np.load(path)
    images = data["test_images"][:count]
    images = images / 255 if images.dtype == np.uint8 else images
    images = images.astype(np.float32).reshape(-1, *original.input_shape)
    return images, data["test_labels"][:count]


def balls(original, reduced, images, radius, each):
    start, cpu = time.perf_counter(), time.process_time()
    limit = None if each is None else each * len(images)
    certificate = nr.certify(
        original, reduced, around=images, radius=radius / 255, seconds=limit, classes=True
    )
    seconds = (time.perf_counter() - start) / len(images)
    cpu = (time.process_time() - cpu) / len(images)
    worst = certificate.bound.max(axis=1)
    ratio = np.median(certificate.bound / np.maximum(certificate.found, 1e-12))
    start = time.perf_counter()
    problem = problem_of(original, reduced, None, images, radius / 255)
    intervals = [
        _deviation(problem, Relaxation(problem.plain, low[None], high[None], False).propagate())[0]
        for low, high in zip(problem.low, problem.high, strict=True)
    ]
    plain = (time.perf_counter() - start) / len(images)
    print(
        "| radius | equal class | broken | bound | bound / found | s/image | CPU s/image"
        " | intervals | s/image |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {radius:g}/255 | {certificate.same_class.mean():.1%} |"
        f" {certificate.class_differs.mean():.1%} | {np.median(worst):.3g} | {ratio:.2f} |"
        f" {seconds:.3f} | {cpu:.3f} | {np.median(np.max(intervals, axis=1)):.3g} | {plain:.3f} |"
    )


def radius(original, reduced, images, labels, count, record, seconds):
    correct = original.predict(images).argmax(axis=1) == labels
    images, labels = images[correct][:count], labels[correct][:count]
    known = json.loads(record.read_text()) if record.exists() else [[0.0, MOST] for _ in images]
    start = time.perf_counter()

    def holds_for_half(size):
        """Whether it does for half of the images; those are tried that this depends on."""
        for number, image in enumerate(images):
            yes = sum(low >= size for low, _ in known)
            no = sum(high <= size for _, high in known)
            if 2 * yes >= len(known) or 2 * no > len(known):
                return 2 * yes >= len(known)
            if known[number][0] >= size or known[number][1] <= size:
                continue
            if time.perf_counter() - start > seconds:
                sys.exit(f"stopped at {size:.3f}/255: {yes} yes, {no} no of {len(known)}")
            cpu = time.process_time()
            same = all(
                is_certain(network, image, size / 255, labels[number])
                for network in (original, reduced)
            )
            known[number][0 if same else 1] = size
            record.write_text(json.dumps(known))
            cpu = time.process_time() - cpu
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"| {number} | {size:.3f}/255 | {same} | {cpu:.1f} | {memory:.1f} |",
                flush=True,
            )
        return 2 * sum(low >= size for low, _ in known) >= len(known)

    print("| image | radius | certified | CPU s | GB |\n|---|---|---|---|---|")
    low, high = 0.0, MOST
    while high - low > SMALLEST:
        middle = (low + high) / 2
        low, high = (middle, high) if holds_for_half(middle) else (low, middle)
    print(f"\nhalf of {len(images)} images: {low:.3f}/255, not {high:.3f}/255")


def is_certain(network, image, radius, label):
    """Whether a network certainly gives a class on a ball, by the bounds that `certify` takes."""
    low, high = balls_of(
        network, *(np.broadcast_to(e, image.shape) for e in (0.0, 1.0)), image[None], radius
    )
    program = compile_networks([network])
    bounds = Relaxation(program, low, high, forward=program.has_maps).propagate(Relaxation.refine)
    (node,) = program.outputs
    rows = np.delete(-np.eye(*program.shape(node)), label, axis=0)
    rows[:, label] = 1.0
    lower = bounds.lower({node: Rows(rows)}, np.zeros(len(rows), int)).lower
    return bool((lower > 0).all())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("acasxu", "balls", "radius"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--radius", type=float, default=2.0, help="in 1/255")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--each", type=float, help="of balls: seconds an image; cases by default")
    parser.add_argument("--record", type=Path, default=Path("radius.json"), help="what is known")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="when to stop")
    arguments = parser.parse_args()
    if arguments.what == "acasxu":
        return acasxu(arguments.paths[0])
    original, reduced = (nr.load(path) for path in arguments.paths[:2])
    count = arguments.images
    if arguments.what == "balls":
        images, _ = images_of(arguments.paths[2], original, count)
        return balls(original, reduced, images, arguments.radius, arguments.each)
    images, labels = images_of(arguments.paths[2], original, 2 * count)
    return radius(original, reduced, images, labels, count, arguments.record, arguments.seconds)


if __name__ == "__main__":
    main()
