"""The samples as the methods see them: H = X̃ᵀX̃ and G = X̃ᵀX, accumulated chunk by chunk in
float64. Methods that read no more of G than its products Gw with the weights are given these,
X̃ᵀ(Xw): inputs × neurons numbers in place of inputs × inputs.

The weights of a layer form groups that are quantized independently: one group for a Dense layer and
for a convolution with all input channels together (conv="joint"), or as many as the convolution has
groups; one per input channel for conv="channel" and for a depthwise convolution.
"""

from collections.abc import Iterable, Mapping

import numba
import numpy as np

from netreduce.errors import SampleError
from netreduce.network.layers import (
    Conv2D,
    Convolution,
    DepthwiseConv2D,
    Weighted,
    window_counts,
)

BLOCK_BYTES = 1 << 24  # float64 rows that are multiplied at a time
MIN_ROWS = 256  # their least number: adding up products of fewer rows costs more than the products
MANY = 1536  # inputs from which on there is no memory for a Gram matrix of every chunk
PANEL = 128  # columns of G at a time when just its lower triangle is wanted
CONSTANT = 1e-12  # variance, in units of the mean square, from which on an input varies
LARGE = 8192  # inputs from which on all of H at a time would need another array of 0.5 GB or more


def has_one_group(layer: Weighted, conv: str) -> bool:
    """Whether every weight of a neuron is quantized with those of all others in view."""
    return not _by_channel(layer, conv) and _group_count(layer) == 1


def _by_channel(layer: Weighted, conv: str) -> bool:
    return isinstance(layer, DepthwiseConv2D) or (isinstance(layer, Conv2D) and conv == "channel")


def _group_count(layer: Weighted) -> int:
    return layer.groups if isinstance(layer, Conv2D) else 1


def to_groups(array: np.ndarray, layer: Weighted, conv: str) -> np.ndarray:
    """An array of the kernel's shape (or one broadcasting to it) as (groups, inputs, neurons)."""
    if has_one_group(layer, conv):
        return array.reshape(1, -1, array.shape[-1])
    count = _group_count(layer)
    if count == 1:
        return array.transpose(2, 0, 1, 3).reshape(array.shape[2], -1, array.shape[3])
    if _by_channel(layer, conv):
        array = np.broadcast_to(array, (*array.shape[:2], *layer.kernel.shape[2:]))
        parts = array.reshape(*array.shape[:3], count, -1).transpose(3, 2, 0, 1, 4)
        return parts.reshape(count * array.shape[2], -1, parts.shape[-1])
    parts = array.reshape(*array.shape[:3], count, -1).transpose(3, 0, 1, 2, 4)
    return parts.reshape(count, -1, parts.shape[-1])


def from_groups(groups: np.ndarray, layer: Weighted, conv: str) -> np.ndarray:
    """Inverse of `to_groups` for the whole kernel."""
    shape = layer.kernel.shape
    if has_one_group(layer, conv):
        return groups.reshape(shape)
    count = _group_count(layer)
    if count > 1:
        if _by_channel(layer, conv):
            parts = groups.reshape(count, shape[2], *shape[:2], -1).transpose(2, 3, 1, 0, 4)
        else:
            parts = groups.reshape(count, *shape[:3], -1).transpose(1, 2, 3, 0, 4)
        return parts.reshape(shape)
    return groups.reshape(shape[2], *shape[:2], shape[3]).transpose(1, 2, 0, 3)


def worth_apart(layer: Weighted, conv: str, rows: int) -> bool:
    """Whether chunks of so many rows (samples, or windows of samples) are better multiplied each by
    itself, and the products added up.
    """
    return _by_channel(layer, conv) or (rows >= MIN_ROWS and layer.kernel[..., 0].size <= MANY)


def accumulate(
    layer: Weighted,
    conv: str,
    pairs: Iterable[tuple[np.ndarray, np.ndarray | None]],
    constant: bool = False,
    whole: bool = True,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrices of a layer's inputs.

    Parameters
    ----------
    layer : Dense, Conv2D or DepthwiseConv2D
    conv : {"channel", "joint"}
    pairs : iterable of (quantized, analog)
        Chunks of the layer's input in both networks. `analog` is None when G is not wanted, and
        `quantized` itself where both agree.
    constant : bool
        Whether a constant input 1 (that of the bias) comes after the others; one group only.
    whole : bool
        Whether all of G is wanted; its lower triangle costs less.
    weights : ndarray, shape (groups, inputs, neurons), float64, optional
        Where they are given, Gw takes the place of G.

    Returns
    -------
    G, H : ndarray, shape (groups, inputs, inputs), float64
        One array twice when every analog chunk was None or `quantized` itself.
    """
    chunks = (
        [quantized] if analog is None or analog is quantized else [quantized, analog]
        for quantized, analog in pairs
    )
    if _by_channel(layer, conv):
        assert isinstance(layer, Convolution)
        G, H = total(_windows(layer, whole, inputs) for inputs in chunks)
        return (G if weights is None or G is H else G @ weights), H
    parts = [part for part, _ in layer.parts()] if isinstance(layer, Conv2D) else [slice(None)]
    grams = [
        _Rows(layer, constant, whole, part, None if weights is None else weights[group])
        for group, part in enumerate(parts)
    ]
    for inputs in chunks:
        for gram in grams:
            gram.add(inputs)
    results = [gram.result() for gram in grams]
    if len(results) == 1:
        return results[0]
    H = np.concatenate([h for _, h in results])
    return (H if results[0][0] is results[0][1] else np.concatenate([g for g, _ in results])), H


def centred(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """G, H and T of the inputs less their means, from those that have a constant input after the
    others; with the means "seen" of X̃ and "wanted" of Xw.

    Parameters
    ----------
    given : mapping
        H, T and maybe G, of one group; of G its lower triangle may do.

    Raises
    ------
    SampleError
        One sample: all of it would be the mean.
    """
    if given["H"][0, -1, -1] < 2:
        raise SampleError("correct_bias needs more than one sample: one has no variance")
    sums, count = given["H"][:, :-1, -1:], given["H"][0, -1, -1]
    H = given["H"][:, :-1, :-1] - sums @ sums.transpose(0, 2, 1) / count
    before, after = (np.diagonal(matrix, axis1=1, axis2=2) for matrix in (given["H"], H))
    varies = after > CONSTANT * before[:, :-1]
    found = {
        "H": H * varies[:, :, None] * varies[:, None],
        "T": given["T"][:, :-1] - sums @ given["T"][:, -1:] / count,
        "seen": sums[0, :, 0] / count,
        "wanted": given["T"][0, -1] / count,
    }
    if "G" in given:
        found["G"] = given["G"][:, :-1, :-1] - sums @ given["G"][:, -1:, :-1] / count
    return found


def total(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of Gram matrices that `accumulate` gave, each a pair (G, H)."""
    parts = iter(parts)
    G, H = next(parts)
    for more_G, more_H in parts:
        H += more_H
        if G is not H:
            G += more_G
    return G, H


class _Rows:
    """One group: the input is a matrix whose rows are samples, or windows of samples in some of the
    channels.
    """

    def __init__(
        self,
        layer: Weighted,
        constant: bool,
        whole: bool,
        channels: slice,
        weights: np.ndarray | None,
    ) -> None:
        self.channels, self.weights = channels, weights
        self.layer, self.inputs, self.size, self.whole = (
            layer,
            layer.kernel[..., 0].size,
            layer.kernel[..., 0].size + constant,
            whole,
        )
        self.H: np.ndarray | None = None
        self.G: np.ndarray | None = None
        self.buffers: list[np.ndarray] = []
        self.filled = 0

    def add(self, inputs: list[np.ndarray]) -> None:
        """Copies rows, as float64 and with the constant input, to a buffer for each network, and
        multiplies what is full.
        """
        if isinstance(self.layer, Convolution):
            inputs = [self.layer.patches(x)[..., self.channels] for x in inputs]
        rows = inputs[0][0].size // self.inputs  # of one sample
        if not self.buffers:
            capacity = max(MIN_ROWS, BLOCK_BYTES // (8 * self.size), rows)
            self.buffers = [np.empty((capacity, self.size)) for _ in inputs]
            for buffer in self.buffers:
                buffer[:, self.inputs :] = 1
        step = len(self.buffers[0]) // rows
        for start in range(0, len(inputs[0]), step):
            blocks = [x[start : start + step] for x in inputs]
            count = len(blocks[0]) * rows
            if self.filled + count > len(self.buffers[0]):
                self._multiply()
            for buffer, block in zip(self.buffers, blocks, strict=True):
                target = buffer[self.filled : self.filled + count, : self.inputs].reshape(
                    block.shape
                )
                target[:] = block
            self.filled += count

    def _multiply(self) -> None:
        X, *others = (buffer[: self.filled] for buffer in self.buffers)
        self.H = _add_product(self.H, X, X, self.size if self.size <= LARGE else PANEL)
        for X_analog in others:
            if self.weights is not None:
                self.G = _add_product(self.G, X, X_analog @ self.weights, self.size)
            else:
                panel = self.size if self.whole else PANEL
                self.G = _add_product(self.G, X, X_analog, panel, self.whole)
        self.filled = 0

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        self._multiply()
        assert self.H is not None
        H = self.H[None]
        return (H if self.G is None else self.G[None]), H


def _add_product(
    total: np.ndarray | None, left: np.ndarray, right: np.ndarray, panel: int, whole: bool = True
) -> np.ndarray:
    """total + leftᵀ right, so many rows at a time; where not `whole`, its lower triangle and what
    else is in the panels.
    """
    size, first = left.shape[1], total is None
    total = np.zeros((size, right.shape[1])) if total is None else total
    for start in range(0, size, panel):
        stop = min(start + panel, size)
        part = left[:, start:stop].T, right[:, : None if whole else stop]
        target = total[start:stop, : part[1].shape[1]]
        if first:
            np.matmul(*part, out=target)
        else:
            target += part[0] @ part[1]
    return total


def _windows(
    layer: Convolution, whole: bool, inputs: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """G and H of the windows of one chunk, one group per channel."""
    padded = [layer.padded(x.astype(np.float64)) for x in inputs]
    window, (_, height, width, channels) = layer.kernel.shape[:2], padded[0].shape
    counts = window_counts((height, width), window, layer.strides, "valid", layer.dilation)
    rows = [x.reshape(len(x), height, width * channels) for x in padded]

    def products(right: np.ndarray, whole: bool) -> np.ndarray:
        return _products(
            rows[0], right, channels, window, counts, layer.strides, layer.dilation, whole
        ).transpose(2, 0, 1)

    H = products(rows[0], False)
    H = np.tril(H) + np.tril(H, -1).transpose(0, 2, 1)
    return (np.ascontiguousarray(products(rows[1], whole)) if len(rows) == 2 else H), H


@numba.njit(nogil=True, cache=True)
def _products(
    left: np.ndarray,
    right: np.ndarray,
    channels: int,
    window: tuple[int, int],
    counts: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    whole: bool,
) -> np.ndarray:
    """Sums over all samples and windows of the products of their entries a and b ≤ a (all b, if
    `whole`), shape (entries, entries, channels).

    Entries a and b of a window are pixels at a fixed distance, whichever window they are in. So the
    pixels of a row are multiplied by those at each distance once, summed over the samples, and then
    each pair of entries takes the pixels of its windows.
    """
    height, width = left.shape[1], left.shape[2] // channels
    sums = np.zeros((window[0] * window[1], window[0] * window[1], channels))
    line = np.zeros(left.shape[2])
    for row in range(height):
        for down in range(1 - window[0], window[0] if whole else 1):
            other = row + down * dilation[0]
            if not 0 <= other < height:
                continue
            for across in range(1 - window[1], window[1] if whole or down < 0 else 1):
                distance = across * dilation[1]
                first, last = max(0, -distance) * channels, (width - max(0, distance)) * channels
                line[:] = 0.0
                total = line[first:last]
                for sample in range(len(left)):
                    p, q = (
                        left[sample, row, first:last],
                        right[
                            sample, other, first + distance * channels : last + distance * channels
                        ],
                    )
                    for lane in range(len(total)):
                        total[lane] += p[lane] * q[lane]
                for i in range(max(0, -down), min(window[0], window[0] - down)):
                    y = row - i * dilation[0]
                    if y < 0 or y % strides[0] != 0 or y // strides[0] >= counts[0]:
                        continue
                    for j in range(max(0, -across), min(window[1], window[1] - across)):
                        pair = sums[i * window[1] + j, (i + down) * window[1] + j + across]
                        for x in range(counts[1]):
                            pixel = line[(x * strides[1] + j * dilation[1]) * channels :]
                            for c in range(channels):
                                pair[c] += pixel[c]
    return sums
