"""Certificates: claims decided on ACAS Xu, classes certified on images, beside intervals.

    python benchmarks/certify.py acasxu ../shared/acasxu
    python benchmarks/certify.py balls original.h5 reduced.h5 data.npz --radius 2 --images 100
    python benchmarks/certify.py radius networks/cifar10.h5 reduced.h5 data.npz --images 4

acasxu: the pairs of instances.csv (|g − f| ≤ ε over a box); answer, seconds, boxes.
balls: around test images, radius in 1/255; share with a certified equal class, median bound on any
score, median of bound / found, seconds an image; beside it what intervals give.
radius: by bisection, the largest radius with a certified equal class, of each image; its median.
All print Markdown tables. Wall clock, and processor time of all threads beside it.
"""

import argparse
import csv
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import netreduce as nr
from netreduce.certificates.bounds import Relaxation
from netreduce.certificates.core import _deviation
from netreduce.certificates.problem import problem_of
from netreduce.formats.onnx.reader import read_network

ACASXU_BOX = [0.6, -0.5, -0.5, 0.45, -0.45], [0.679857769, 0.5, 0.5, 0.5, -0.45]
SMALLEST = 0.01  # of the radii tried, in 1/255


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
    """The first test images, as the network reads them."""
    images = np.load(path)["test_images"][:count]
    images = images / 255 if images.dtype == np.uint8 else images
    return images.astype(np.float32).reshape(-1, *original.input_shape)


def balls(original, reduced, images, radius):
    start, cpu = time.perf_counter(), time.process_time()
    certificate = nr.certify(original, reduced, around=images, radius=radius / 255, classes=True)
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


def radius(original, reduced, images):
    print("| image | largest certified radius | s a try | GB |\n|---|---|---|---|")
    found = []
    for number, image in enumerate(images):
        low, high, tries, start = 0.0, 1.0, 0, time.perf_counter()
        while high - low > max(SMALLEST, low / 8):
            middle = (low + high) / 2
            certificate = nr.certify(
                original, reduced, around=image[None], radius=middle / 255, classes=True
            )
            low, high = (middle, high) if certificate.same_class[0] else (low, middle)
            tries += 1
        found.append(low)
        seconds = (time.perf_counter() - start) / tries
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {number} | {low:.3f}/255 | {seconds:.1f} | {memory:.1f} |", flush=True)
    print(f"\nmedian {np.median(found):.3f}/255")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("acasxu", "balls", "radius"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--radius", type=float, default=2.0, help="in 1/255")
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.what == "acasxu":
        return acasxu(arguments.paths[0])
    original, reduced = (nr.load(path) for path in arguments.paths[:2])
    images = images_of(arguments.paths[2], original, arguments.images)
    if arguments.what == "balls":
        return balls(original, reduced, images, arguments.radius)
    return radius(original, reduced, images)


if __name__ == "__main__":
    main()
