"""The command line: one thin function for each command; it imports what it calls when it runs.

Exit status: 0, or 1 for an error of the library or a file (one line on stderr), 2 for wrong words
on the command line, 130 when interrupted. Files are whole or not there.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from netreduce import __version__

HELP = """How far can a trained neural network shrink, and what does it cost?

Networks are Keras files (.h5, .keras), PyTorch's (.pth, .pt2, .safetensors, ...), ONNX (.onnx),
text (.txt) and .nnet; they are told apart by their content. Data are .npz or .npy arrays, folders
of images (one folder for each class), CSV or Parquet tables, or a dataset file of the workflow.

Every command takes --json. `netreduce COMMAND --help` has examples.
"""

app = App(
    name="netreduce",
    help=HELP,
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command()

DATA = Group("Data", sort_key=2)
OUTPUT = Group("Output", sort_key=3)


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """How data are read: the words of `datasets` in a workflow's configuration."""

    label: Annotated[str | None, Parameter(group=DATA)] = None
    "Name of the labels in an .npz file, or column of a table; none where there are no labels."
    target: Annotated[str | None, Parameter(group=DATA)] = None
    "What the network answers: classes, numbers, or input (an autoencoder)."
    size: Annotated[tuple[int, int] | None, Parameter(group=DATA, negative="")] = None
    "Height and width to which images are resized."
    channels: Annotated[int | None, Parameter(group=DATA)] = None
    "1 for grey images, 3 for colours."
    scale: Annotated[str | None, Parameter(group=DATA)] = None
    "What values are multiplied by, such as 1/255 (for 8-bit values by default)."
    seed: Annotated[NonNegativeInt, Parameter(group=DATA)] = 0
    "Of the split into training, validation and test samples, and of what techniques draw."


@Parameter(name="*")
@dataclass(frozen=True)
class OutputOptions:
    """What is printed, and whether files are written over."""

    json: Annotated[bool, Parameter(group=OUTPUT, negative="")] = False
    "Print JSON."
    force: Annotated[bool, Parameter(group=OUTPUT, negative="")] = False
    "Write over an output that exists."


@Parameter(name="*")
@dataclass(frozen=True)
class ReadOptions:
    """For files that hold tensors only."""

    architecture: str | None = None
    "What the tensors are: mlp:300,100, lenet5, resnet20, ..., or JSON as in a configuration."


Out = Annotated[Path, Parameter(name=["--output", "-o"], group=OUTPUT)]
NO_DATA, NO_OUTPUT, NO_READ = DataOptions(), OutputOptions(), ReadOptions()


@app.command
def show(network: Path, *, read: ReadOptions = NO_READ, output: OutputOptions = NO_OUTPUT) -> None:
    """The layers of a network, what it costs, and what each technique can do with it.

    For example:

        netreduce show net.onnx
        netreduce show net.pth --architecture mlp:300,100

    Parameters
    ----------
    network
        File of the network.
    """
    from .inspecting import show as run

    run(network, read, output)


@app.command
def evaluate(
    network: Path,
    *,
    data: Path,
    reference: Path | None = None,
    read: ReadOptions = NO_READ,
    options: DataOptions = NO_DATA,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """How well a network does on the test samples.

    Accuracy for classes, mean squared error for numbers and autoencoders; without labels, how often
    it agrees with a reference.

    For example:

        netreduce evaluate net.h5 --data digits.npz
        netreduce evaluate small.h5 --data table.csv --label price --reference net.h5

    Parameters
    ----------
    network
        File of the network.
    data
        What it is measured on; test samples are drawn where there are none of their own.
    reference
        Another network, to agree with.
    """
    from .inspecting import evaluate as run

    run(network, data, reference, read, options, output)


@app.command
def convert(
    network: Path,
    target: Path,
    /,
    *,
    data: Path | None = None,
    read: ReadOptions = NO_READ,
    options: DataOptions = NO_DATA,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """Write a network in another format: .h5, .keras, .pth, .txt; .onnx or .tflite for deployment.

    For example:

        netreduce convert net.pth --architecture mlp:300,100 net.onnx
        netreduce convert net.onnx net.keras
        netreduce convert net.h5 net.tflite --data digits.npz

    Parameters
    ----------
    network
        File of the network.
    target
        The file to write; its suffix says the format.
    data
        Data that an .onnx or .tflite file preprocesses itself: it reads their values as they are,
        such as pixels from 0 to 255.
    """
    from .inspecting import convert as run

    run(network, target, data, read, options, output)


@app.command
def quantize(
    network: Path,
    *,
    data: Path,
    to: Out,
    bits: float = 4,
    method: str = "gpfq",
    alphabet_scalar: str | None = None,
    radius: str | None = None,
    per_channel: bool | None = None,
    conv: str | None = None,
    samples: PositiveInt = 10_000,
    read: ReadOptions = NO_READ,
    options: DataOptions = NO_DATA,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """Quantize the weights of a network.

    For example:

        netreduce quantize net.h5 --data images/ --bits 4 -o small.h5
        netreduce quantize net.h5 --data d.npz --bits 1.58 --method qronos -o small.onnx

    Parameters
    ----------
    network
        File of the network.
    data
        What the method learns from.
    to
        The file to write.
    bits
        1.58 (ternary), or 2 to 8.
    method
        gpfq, msq, gptq, qronos, spfq, gptaq, adaround, comq or beacon; the last two choose their
        scales themselves.
    alphabet_scalar
        Asks for the published setting: one alphabet for each layer, its radius in units of the
        median absolute weight; best: of 1 to 6 the one that is best on the validation samples.
    radius
        median, max, mse, or output (least error of the layer's outputs); by default median with an
        alphabet scalar, else the best of the method, output or mse.
    per_channel
        An alphabet for each neuron or channel, or for each layer; by default for each neuron,
        unless the radius is median.
    conv
        joint, or channel: every input channel of a convolution by itself, as published; by default
        joint, unless the radius is median.
    samples
        Training samples that the method sees.
    """
    from .reducing import quantizing
    from .reducing import reduce as run

    step = quantizing(method, bits, alphabet_scalar, radius, per_channel, conv)
    run(network, data, step, to, samples, read, options, output)


@app.command
def reduce(
    network: Path,
    *,
    data: Path,
    chain: str,
    to: Out,
    samples: PositiveInt = 10_000,
    read: ReadOptions = NO_READ,
    options: DataOptions = NO_DATA,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """Apply a chain of techniques to a network.

    A chain is spelled as in the paths of a workflow's results, or shorter: technique=value for the
    first parameter, steps apart by /.

    For example:

        netreduce reduce net.h5 --data d.npz --chain "nnrelief=0.95 / gpfq=4 / lump" -o small.onnx
        netreduce reduce net.h5 --data d.npz --chain "select=0.5/gpfq-bits=2-conv=joint" -o small.h5

    Parameters
    ----------
    network
        File of the network.
    data
        What techniques learn from, and what the result is measured on.
    chain
        The steps.
    to
        The file to write.
    samples
        Training samples that techniques see.
    """
    from .reducing import reduce as run

    run(network, data, chain, to, samples, read, options, output)


@app.command
def compare(
    network: Path,
    *,
    data: Path,
    to: Out,
    chains: Path | None = None,
    samples: PositiveInt = 10_000,
    latency: bool = False,
    read: ReadOptions = NO_READ,
    options: DataOptions = NO_DATA,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """Compare chains of techniques on one network: a table, a figure, a page, and the networks.

    For example:

        netreduce compare net.h5 --data d.npz -o report/
        netreduce compare net.h5 --data d.npz --chains chains.yaml -o report/

    Parameters
    ----------
    network
        File of the network.
    data
        What techniques learn from, and what the results are measured on.
    to
        The folder to write: index.html, comparison.csv, pareto.svg, and a file for each network.
    chains
        A YAML file with a list of chains, each a list of steps as in a configuration, or spelled as
        for `netreduce reduce`. By default a selection of all techniques.
    samples
        Training samples that techniques see.
    latency
        Measure how many milliseconds each network takes for 1 and for 256 samples on one thread, in
        NumPy, in ONNX Runtime and, where it is installed, in LiteRT. Zeros that are scattered among
        the weights make none faster; fewer neurons do.
    """
    from .comparing import compare as run

    run(network, data, chains, to, samples, latency, read, options, output)


@app.command
def certify(
    original: Path,
    reduced: Path,
    *,
    around: Path | None = None,
    radius: str | None = None,
    images: PositiveInt = 100,
    low: float | None = None,
    high: float | None = None,
    epsilon: float | None = None,
    seconds: float | None = None,
    to: Annotated[Path | None, Parameter(name=["--output", "-o"], group=OUTPUT)] = None,
    read: ReadOptions = NO_READ,
    options: DataOptions = NO_DATA,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """Prove how far a reduced network can be from the original, on a range or around samples.

    For example:

        netreduce certify net.h5 small.h5 --around d.npz --radius 2/255
        netreduce certify net.onnx small.onnx --low 0 --high 1 --epsilon 0.05

    Parameters
    ----------
    original
        File of the network.
    reduced
        File of what became of it.
    around
        Data: certify a ball around each of the first test samples.
    radius
        Of the balls, such as 2/255.
    images
        So many samples.
    low
        Smallest input; that of the data by default, else 0.
    high
        Largest input; that of the data by default, else 1.
    epsilon
        Also say whether no output moves by more than this: yes, no or undecided.
    seconds
        How long it may take.
    to
        A .json file for the certificate.
    """
    from .certifying import certify as run

    end = (low, high)
    run(original, reduced, around, radius, images, end, epsilon, seconds, to, read, options, output)


@app.command
def init(
    folder: Path,
    *,
    weights: Path | None = None,
    architecture: str | None = None,
    data: Path | None = None,
    dataset: str | None = None,
    output: OutputOptions = NO_OUTPUT,
) -> None:
    """Make a folder with a configuration for the workflow.

    For example:

        netreduce init my-thesis/ --dataset mnist --architecture mlp:300,100
        netreduce init my-thesis/ --weights net.h5 --data images/

    Parameters
    ----------
    folder
        The folder to make.
    weights
        A trained network; without it one is trained.
    architecture
        What is trained, or what the tensors of `weights` are.
    data
        Data of your own.
    dataset
        mnist, fashion_mnist, digits or cifar10, where there are none.
    """
    from .starting import init as run

    run(folder, weights, architecture, data, dataset, output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit status."""
    from netreduce.errors import NetreduceError

    try:
        _run(app, arguments)
    except CycloptsError as error:
        _end(2, " ".join(str(error).split()))
    except NetreduceError as error:
        _end(1, str(error))
    except BrokenPipeError:  # who reads the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        _end(1, f"out of memory{f': {error}' if str(error) else ''}")
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(str(error.name).partition(".")[0])
        if extra is None:
            raise
        _end(1, f"this needs {error.name}: pip install 'netreduce[{extra}]'")
    except KeyboardInterrupt:
        _end(130, "interrupted")


# What brings a package that a command may miss.
EXTRAS = {
    "torch": "torch",
    "keras": "keras",
    "tensorflow": "keras",
    "ai_edge_litert": "keras",
    "matplotlib": "report",
    "seaborn": "report",
    "pandas": "data",
    "pyarrow": "data",
    "PIL": "data",
    "yaml": "report",
}


def _run(command: Callable[..., Any], arguments: Sequence[str] | None) -> None:
    command(
        arguments,
        exit_on_error=False,
        print_error=False,
        result_action="return_none",
    )
    sys.stdout.flush()


def _end(status: int, message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
