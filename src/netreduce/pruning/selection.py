"""Selection: keep the neurons that explain best what the next layers compute, and let those take
over by least squares.

GPFQ's idea of correcting earlier errors, for neurons instead of weights. Layer after layer, with X
the inputs of a layer in the analog and X̃ in the already reduced network, columns of X̃ go as long as
‖X W − X̃ V‖² with the best V, zero where a column is gone, grows least; then W becomes V. It is
column subset selection with reconstruction, as in optimal brain surgery (Hassibi and Stork, 1992)
and channel pruning (He, Zhang and Sun, ICCV 2017), but on the layer's targets and on X̃. Channels of
a convolution go with all their taps; channels that must go together (see `Channels`) as one. The
samples enter through G = X̃ᵀX and H = X̃ᵀX̃ only.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dgemm

from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.fractions import count_kept
from netreduce.network.layers import Conv2D, Dense, Weighted
from netreduce.quantization.propagation import Propagation
from netreduce.quantization.samples import Samples

MEMORY = 1 << 26
DAMPING = 1e-6  # of the mean diagonal entry of H
TINY = 1e-30  # damping where all inputs are zero
METHODS = ("elimination", "variance", "greedy", "thinet", "lasso")
LASSO_STEPS, LASSO_PENALTIES = 300, 40  # of the proximal gradient, and penalties tried
CLEARED = 0.2  # part of the rows of a matrix that are out, before it is made smaller
PROBED = 128  # samples on which the loss of a layer's neurons is measured, ...
SHARES = (0.125, 0.25, 0.5, 0.75)  # ... for these shares of them


def select(
    network: Network,
    samples: np.ndarray | Iterable[np.ndarray],
    keep: int | None = None,
    *,
    fraction: float | None = None,
    layers: Mapping[str, int] | None = None,
    method: str = "elimination",
    multiple: int = 1,
) -> Network:
    """Keep some neurons and channels, chosen for what the layers behind them compute.

    One of keep, fraction and layers says how many.

    Parameters
    ----------
    network : Network
        Analog: what reads a layer that loses neurons gets new weights.
    samples : ndarray, shape (samples, *network.input_shape), or iterable of such arrays
        As for `netreduce.quantize`. With fewer samples than a layer has inputs the least squares
        are held to small weights.
    keep : int
        Neurons and channels left of all that can go, in all layers together. Layers lose what costs
        the outputs least, as measured on the first samples, which the weights are not fitted to.
    fraction : float
        Part of every layer's neurons that is kept, in (0, 1].
    method : {"elimination", "variance", "greedy", "thinet", "lasso"}
        How neurons are chosen; all but the first are for comparison: LiNNA's bases, ThiNet, and
        channel pruning by LASSO.
    multiple : int
        With keep or fraction, layers keep multiples of so many neurons, or as many as they have:
        engines compute channels in blocks, ONNX Runtime of 8 or 16.
    layers : mapping of str to int
        For layers by name, how many are kept; the others stay whole. Of layers whose channels go
        together one is enough.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        None or several of keep, fraction and layers; more neurons to keep than there are, or none;
        a name that no hidden layer has; an unknown method; multiple below 1, or so large that keep
        cannot be reached; parameters that are NaN or infinite.
    UnsupportedLayerError
        No hidden layer with neurons that can go; a quantized layer that reads them.
    SampleError
        Samples that do not fit.

    References
    ----------
    C. Chau, J. Křetínský, S. Mohr, Syntactic vs semantic linear abstraction and refinement of
    neural networks, ATVA 2023 (LiNNA); J. Luo, J. Wu, W. Lin, ThiNet, ICCV 2017; Y. He, X. Zhang,
    J. Sun, Channel pruning for accelerating very deep neural networks, ICCV 2017.

    Examples
    --------
    Two of four neurons are enough where two are sums of the others:

    >>> from netreduce import Dense
    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.random((5, 2)), rng.random((4, 3))
    >>> hidden = Dense(np.hstack([first, first @ rng.random((2, 2))]))
    >>> network = Network([hidden, Dense(second)], (5,))
    >>> x = rng.random((50, 5))
    >>> reduced = select(network, x, keep=2)
    >>> reduced.layers[0].kernel.shape
    (5, 2)
    >>> bool(np.abs(reduced.predict(x) - network.predict(x)).max() < 1e-2)
    True
    """
    given = {"keep": keep, "fraction": fraction, "layers": layers}
    if sum(value is not None for value in given.values()) != 1:
        raise ParameterError(f"one of keep, fraction and layers says how many, found {given}")
    if method not in METHODS:
        raise ParameterError(f"method must be one of {', '.join(METHODS)}, found {method!r}")
    if not (isinstance(multiple, Integral) and multiple >= 1):
        raise ParameterError(f"multiple must be a whole number from 1, found {multiple!r}")
    if keep is not None:
        return _kept(network, samples, keep, method, int(multiple))
    selection = _Selection(network, samples, method)
    if fraction is not None:
        totals = [len(group.members) for group in selection.groups]
        counts = [_in_blocks(count_kept(fraction, total), total, multiple) for total in totals]
    else:
        counts = selection.named(layers or {})
    return selection.reduced(counts)


def _kept(
    network: Network,
    samples: np.ndarray | Iterable[np.ndarray],
    keep: int,
    method: str,
    multiple: int,
) -> Network:
    """The network with so many neurons in all. How many of each layer is measured on the first
    samples, of which the weights know nothing: where these are many, they fit what they have seen.
    """
    every = Samples(network, samples)
    total = sum(map(len, every))
    probe, rest = _first(every, max(1, min(PROBED, total // 4)))
    selection = _Selection(network, rest if total > 1 else samples, method)
    choices = selection.shared_out(keep, probe, multiple)
    networks = [selection.reduced(counts) for counts in choices]
    target = network.predict(probe)
    errors = [np.linalg.norm(one.predict(probe) - target) for one in networks]
    return networks[int(np.argmin(errors))]


def _in_blocks(count: int, total: int, multiple: int) -> int:
    """The multiple nearest to a count, one at least; or the total, where that is nearer or less."""
    nearest = max(multiple, round(count / multiple) * multiple)
    return min((nearest, total), key=lambda one: (one > total, abs(one - count), one))


def _first(samples: Samples, number: int) -> tuple[np.ndarray, "_Behind"]:
    """The first samples, and the others."""
    chunks: list[np.ndarray] = []
    for chunk in samples:
        chunks.append(chunk)
        if sum(map(len, chunks)) >= number:
            break
    return np.concatenate(chunks)[:number], _Behind(samples, number)


@dataclass
class _Behind:
    """All samples but the first ones, in chunks."""

    samples: Iterable[np.ndarray]
    skipped: int

    def __iter__(self) -> Iterator[np.ndarray]:
        skip = self.skipped
        for chunk in self.samples:
            if len(chunk) > skip:
                yield chunk[skip:]
            skip = max(0, skip - len(chunk))


@dataclass
class _Reader:
    """What a layer reads, a constant last, and what it should compute.

    Attributes
    ----------
    H : ndarray, shape (inputs, inputs)
        X̃ᵀX̃, damped.
    C : ndarray, shape (inputs, outputs)
        X̃ᵀXW, and what pulls V towards W as much as the damping pulls it to zero.
    W : ndarray, shape (inputs, outputs)
        As they are.
    variance : ndarray, shape (inputs,)
        Of each input.
    owner : ndarray of int, shape (inputs,)
        The class of channels of each input; −1 for the constant.
    """

    H: np.ndarray
    C: np.ndarray
    W: np.ndarray
    variance: np.ndarray
    owner: np.ndarray

    @cached_property
    def signal(self) -> float:
        """What all inputs explain; 1 where it is nothing."""
        return self.explained(np.ones(len(self.owner), bool)) or 1.0

    def explained(self, kept: np.ndarray) -> float:
        """The part of ‖XW‖² that the best V leaves no error of, with these inputs."""
        return float((self.C * self.solution(kept)).sum())

    def solution(self, kept: np.ndarray) -> np.ndarray:
        """The best V, zero where an input (a mask says which) is not kept."""
        V = np.zeros_like(self.C)
        inputs = np.flatnonzero(kept)
        factor = cho_factor(self.H[np.ix_(inputs, inputs)], lower=True)
        V[inputs] = cho_solve(factor, self.C[inputs])
        return V


@dataclass
class _Group:
    """Layers that lose channels together, the classes of these, and the layers that read them."""

    producers: list[int]
    members: np.ndarray
    readers: list[int]
    neurons: float  # for each class


class _Selection:
    """The samples on their way through a network that loses neurons."""

    def __init__(
        self, network: Network, samples: np.ndarray | Iterable[np.ndarray] | None, method: str
    ) -> None:
        network.check_parameters()
        self.network, self.method, self.channels = network, method, Channels(network)
        self.readers = [
            index
            for index, layer in enumerate(network.layers)
            if isinstance(layer, Dense | Conv2D)
            and getattr(layer, "groups", 1) == 1  # what groups read stays whole
            and self.channels.removable[self._owners(index)].any()
        ]
        self.groups = []
        for producers in self.channels.groups():
            members = self.channels.members(producers)
            readers = [r for r in self.readers if np.isin(self._owners(r), members).any()]
            made = sum(np.isin(self.channels.classes[i], members).sum() for i in producers)
            self.groups.append(_Group(producers, members, readers, made / len(members)))
        if not self.groups:
            raise UnsupportedLayerError("no hidden layer has neurons or channels that can go")
        for index in self.readers:
            if getattr(network.layers[index], "quantization", None) is not None:
                raise UnsupportedLayerError(
                    f"{network.names[index]} is quantized: select neurons before quantizing"
                )
        self.propagation = Propagation(network, samples, MEMORY, keep=True)

    def named(self, layers: Mapping[str, int]) -> list[int]:
        """How many classes of every group are kept, from numbers for layers by name."""
        counts = [len(group.members) for group in self.groups]
        names = {
            self.network.names[index]: number
            for number, group in enumerate(self.groups)
            for index in group.producers
        }
        for name, count in layers.items():
            if name not in names:
                raise ParameterError(
                    f"layers: {name!r} has no neurons that can go; there are {', '.join(names)}"
                )
            most = len(self.groups[names[name]].members)
            if not isinstance(count, Integral) or not 1 <= count <= most:
                raise ParameterError(
                    f"layers: {name} can keep 1 to {most} of its neurons, found {count!r}"
                )
            counts[names[name]] = int(count)
        return counts

    def shared_out(self, keep: int, probe: np.ndarray, multiple: int = 1) -> list[list[int]]:
        """Two ways to keep so many neurons, or, in multiples, up to so many: the same part of every
        layer, and what costs least.
        """
        sizes = [group.neurons * len(group.members) for group in self.groups]
        smallest = [min(multiple, len(group.members)) for group in self.groups]
        least = sum(
            count * group.neurons for count, group in zip(smallest, self.groups, strict=True)
        )
        if not isinstance(keep, Integral) or not least <= keep <= sum(sizes):
            raise ParameterError(
                f"keep must be a number of neurons from {least:g} to the {sum(sizes):g} that can"
                f" go, found {keep!r}"
            )
        part = keep / sum(sizes)
        uniform = [
            max(one, int(part * len(group.members)) // multiple * multiple)
            for one, group in zip(smallest, self.groups, strict=True)
        ]
        room = keep - sum(
            count * group.neurons for count, group in zip(uniform, self.groups, strict=True)
        )
        for number, group in enumerate(self.groups):
            more = min(multiple, len(group.members) - uniform[number])
            if 0 < more * group.neurons <= room:
                uniform[number] += more
                room -= more * group.neurons
        if self.method != "elimination":
            return [uniform]
        self._start()
        cheapest = self._cheapest(self._measured(probe), keep, multiple)
        return [uniform, cheapest] if cheapest != uniform else [uniform]

    def _cheapest(self, costs: list[np.ndarray], keep: int, multiple: int) -> list[int]:
        """How many classes of every group are kept when the cheapest removals go first."""
        counts = [len(group.members) for group in self.groups]
        left = sum(group.neurons * len(group.members) for group in self.groups)
        queue: list[tuple[float, int, int]] = []

        def offer(number: int) -> None:
            """The next removal from a group, down to a multiple."""
            count, total = counts[number], len(self.groups[number].members)
            go = (count - 1) % multiple + 1
            if go < count:
                cost = costs[number][total - count : total - count + go]
                heapq.heappush(queue, (float(cost.mean()), number, go))

        for number in range(len(costs)):
            offer(number)
        while queue and left > keep:
            _, number, go = heapq.heappop(queue)
            counts[number] -= go
            left -= go * self.groups[number].neurons
            offer(number)
        return counts

    def _measured(self, probe: np.ndarray) -> list[np.ndarray]:
        """For every group: what each removal adds to the error of the outputs, for every neuron.

        Measured when some shares of the group are gone and all others are whole; between these in
        proportion to what elimination counts.
        """
        network = self.network.logits()
        target = network.predict(probe)
        marginals = []
        for group in self.groups:
            readers = {index: self._reader(index) for index in group.readers}
            order, costs = _eliminated(
                list(readers.values()), group.members, len(group.members) - 1
            )
            counts = np.unique([round(share * len(costs)) for share in SHARES if len(costs)])
            counts = counts[counts > 0].astype(int)
            errors = []
            for count in counts:
                changes = {
                    index: self._adjusted(index, reader, order[:count])
                    for index, reader in readers.items()
                }
                off = network.replace(changes).predict(probe) - target
                errors.append(float(np.sum(off.astype(np.float64) ** 2)))
            counted = np.concatenate([[0], np.cumsum(costs)])
            known = [0, *counts]
            curve = np.interp(counted, counted[known], [0, *np.maximum.accumulate(errors)])
            if len(counts) and counted[counts[-1]] > 0:  # beyond, as steep as up to the last share
                beyond = counted > counted[counts[-1]]
                curve[beyond] *= counted[beyond] / counted[counts[-1]]
            marginals.append(np.maximum.accumulate(np.diff(curve)) / group.neurons)
        return marginals

    def reduced(self, counts: list[int]) -> Network:
        """The network with so many classes of every group."""
        self._start()
        gone: dict[int, np.ndarray] = {}
        changes: dict[int, Weighted] = {}
        for index in self.readers:
            for number, group in enumerate(self.groups):
                if number not in gone and index in group.readers:
                    gone[number] = self._chosen(group, counts[number])
            lost = np.concatenate([np.zeros(0, int), *gone.values()])
            changes[index] = self._adjusted(index, self._reader(index), lost)
            if self.method == "elimination":
                self.propagation.exchange(index, changes[index])
        lost = np.concatenate([np.zeros(0, int), *gone.values()])
        return Channels(self.network.replace(changes)).without(lost)

    def _adjusted(self, index: int, reader: _Reader, lost: np.ndarray) -> Weighted:
        """A layer that makes up for what it does not read any more, as well as it can."""
        layer = self.network.layers[index]
        assert isinstance(layer, Weighted)
        V = reader.solution(~np.isin(reader.owner, lost))
        rows = layer.kernel[..., 0].size
        bias = V[rows] if len(V) > rows else layer.bias
        return layer.replace(
            kernel=V[:rows].reshape(layer.kernel.shape).astype(layer.kernel.dtype),
            bias=bias.astype(layer.bias.dtype),
        )

    def _chosen(self, group: _Group, count: int) -> np.ndarray:
        """The classes of a group that go."""
        readers, members = [self._reader(index) for index in group.readers], group.members
        go = len(members) - count
        if not go:
            return members[:0]
        if self.method == "variance":
            variances = sum(_by_class(reader.variance, reader, members) for reader in readers)
            return members[np.argsort(variances, kind="stable")[:go]]
        if self.method == "lasso":
            return np.setdiff1d(members, _by_lasso(readers, members, count))
        if self.method == "thinet":
            return _least_heard(readers, members, go)
        if self.method == "greedy":
            everyone = [replace(reader, C=reader.H) for reader in readers]
            return np.setdiff1d(members, _selected(everyone, members, count))
        if go < count / 2:  # the other way is longer and, where few go, worse
            return _eliminated(readers, members, go)[0]
        backward = _eliminated(readers, members, go)[0]
        forward = np.setdiff1d(members, _selected(readers, members, count))
        return min((backward, forward), key=lambda gone: _loss(readers, gone))

    def _start(self) -> None:
        self.propagation.start(self.readers, with_analog=True, whole=True)

    def _reader(self, index: int) -> _Reader:
        layer = self.network.layers[index]
        assert isinstance(layer, Weighted)
        G, H = (matrices[0] for matrices in self.propagation.gram(index, "joint", True))
        W = np.vstack([layer.kernel.reshape(-1, layer.outputs), layer.bias]).astype(np.float64)
        owner = np.append(self._owners(index), -1)
        variance = np.diagonal(H) / H[-1, -1] - (H[-1] / H[-1, -1]) ** 2
        if self.method != "elimination":  # biases stay
            G, H, W, owner = G[:-1, :-1], H[:-1, :-1], W[:-1], owner[:-1]
            variance = variance[:-1]
        damping = DAMPING * np.diagonal(H).mean() or TINY
        H = H + damping * np.eye(len(H))
        return _Reader(H, G @ W + damping * W, W, variance, owner)

    def _owners(self, index: int) -> np.ndarray:
        """The class of every input of a layer, in the order of the rows of its kernel."""
        layer, (source,) = self.network.layers[index], self.network.sources[index]
        assert isinstance(layer, Weighted)
        return np.broadcast_to(self.channels.classes[source], layer.kernel.shape[:-1]).ravel()


def _loss(readers: list[_Reader], gone: np.ndarray) -> float:
    """The error that losing these classes leaves, as a part of the signal, summed over readers."""
    return sum(
        1 - reader.explained(~np.isin(reader.owner, gone)) / reader.signal for reader in readers
    )


def _eliminated(
    readers: list[_Reader], members: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classes taken out one by one, each time the one whose loss costs least after the others have
    adjusted, and what each costs.

    With P = H⁻¹ and V = PC, taking out a block b costs tr(V_bᵀ P_bb⁻¹ V_b).
    """
    tableaus = []
    for reader in readers:
        P = np.linalg.inv(reader.H)
        V = P @ reader.C
        tableaus.append(_Tableau(P, V, reader.owner, members, 1 / reader.signal))
    order, costs = [], []
    left = np.ones(len(members), bool)
    for _ in range(number):
        cost = np.where(left, sum(tableau.gains() for tableau in tableaus), np.inf)
        place = int(np.argmin(cost))
        order.append(place)
        costs.append(float(cost[place]))
        left[place] = False
        for tableau in tableaus:
            tableau.sweep(place)
    return members[order], np.array(costs)


def _selected(readers: list[_Reader], members: np.ndarray, number: int) -> np.ndarray:
    """Classes taken in one by one, each time the one that explains most of what is left.

    With H̃ and C̃ orthogonal to what is in already, taking in a block b gains tr(C̃_bᵀ H̃_bb⁻¹ C̃_b).
    """
    tableaus = []
    for reader in readers:
        M, R = reader.H.copy(), reader.C.copy()
        others = np.flatnonzero(~np.isin(reader.owner, members))
        if len(others):
            _pivot(M, R, others)
        tableaus.append(_Tableau(M, R, reader.owner, members, 1 / reader.signal))
    order = []
    left = np.ones(len(members), bool)
    for _ in range(number):
        gain = np.where(left, sum(tableau.gains() for tableau in tableaus), -np.inf)
        order.append(int(np.argmax(gain)))
        left[order[-1]] = False
        for tableau in tableaus:
            tableau.sweep(order[-1])
    return members[order]


def _heard(readers: list[_Reader], members: np.ndarray) -> np.ndarray:
    """Products of the parts of the sums that come from each class, summed over samples."""
    heard = np.zeros((len(members), len(members)))
    for reader in readers:
        parts = reader.H * (reader.W @ reader.W.T) / reader.signal
        heard += _by_class(_by_class(parts, reader, members).T, reader, members)
    return heard


def _by_lasso(readers: list[_Reader], members: np.ndarray, count: int) -> np.ndarray:
    """He, Zhang and Sun: the classes kept by the LASSO of what all compute on the part β_c of each,

        min over β of ½ ‖Σ_c (1 − β_c) X_c W_c‖² + λ ‖β‖₁,

    under the largest penalty λ that leaves enough of them; those with the largest β.
    """
    Q = _heard(readers, members)
    target, step = Q.sum(axis=1), 1 / max(float(np.linalg.eigvalsh(Q)[-1]), TINY)
    beta = np.ones(len(members))
    low, high = 0.0, float(np.abs(target).max())
    best = beta
    for _ in range(LASSO_PENALTIES):
        penalty = (low + high) / 2
        former, momentum = beta, beta
        for k in range(LASSO_STEPS):  # FISTA
            ahead = momentum - step * (Q @ momentum - target)
            new = np.sign(ahead) * np.maximum(np.abs(ahead) - step * penalty, 0)
            momentum = new + k / (k + 3) * (new - former)
            former = new
        beta = former
        if np.count_nonzero(beta) >= count:
            low, best = penalty, beta
        else:
            high = penalty
    return members[np.argsort(-np.abs(best), kind="stable")[:count]]


def _least_heard(readers: list[_Reader], members: np.ndarray, number: int) -> np.ndarray:
    """ThiNet: classes taken out one by one, each time the one with which the part of the sums that
    is lost, before anything adjusts, grows least.
    """
    lost = _heard(readers, members)
    order: list[int] = []
    growth = np.diagonal(lost).copy()
    for _ in range(number):
        order.append(int(np.argmin(growth)))
        growth += 2 * lost[order[-1]]
        growth[order] = np.inf
    return members[order]


def _by_class(values: np.ndarray, reader: _Reader, members: np.ndarray) -> np.ndarray:
    """Values of a layer's inputs, along the first axis, summed for every class."""
    return np.stack([values[reader.owner == member].sum(axis=0) for member in members])


class _Tableau:
    """A symmetric matrix M and a right side R, whose blocks are swept out one after the other; rows
    that are out, or of no class, are left out now and then.
    """

    def __init__(
        self, M: np.ndarray, R: np.ndarray, owner: np.ndarray, members: np.ndarray, weight: float
    ) -> None:
        self.M, self.R, self.weight, self.classes = M, R, weight, len(members)
        self.places = np.searchsorted(members, owner)
        self._leave_out(~np.isin(owner, members))

    def _leave_out(self, gone: np.ndarray) -> None:
        self.M, self.R = self.M[np.ix_(~gone, ~gone)], self.R[~gone]
        self.places = self.places[~gone]
        self.gone = np.zeros(len(self.places), bool)
        order = np.argsort(self.places, kind="stable")
        places, starts = np.unique(self.places[order], return_index=True)
        self.blocks = dict(zip(places.tolist(), np.split(order, starts[1:]), strict=True))

    def gains(self) -> np.ndarray:
        """tr(R_bᵀ M_bb⁻¹ R_b) of every block that is left, 0 of the others, as a share of all."""
        gains = np.zeros(self.classes)
        for size in {len(block) for block in self.blocks.values()}:
            places = [place for place, block in self.blocks.items() if len(block) == size]
            rows = np.array([self.blocks[place] for place in places])
            if size == 1:
                rows = rows[:, 0]
                gains[places] = (self.R[rows] ** 2).sum(axis=1) / self.M[rows, rows]
                continue
            inner = self.M[rows[:, :, None], rows[:, None, :]]
            right = self.R[rows]
            gains[places] = (right * np.linalg.solve(inner, right)).sum(axis=(1, 2))
        return self.weight * gains

    def sweep(self, place: int) -> None:
        """Sweep out the block of a class."""
        block = self.blocks.pop(place, None)
        if block is None:  # it is not among the inputs of this layer
            return
        _pivot(self.M, self.R, block)
        self.gone[block] = True
        if self.gone.mean() > CLEARED:
            self._leave_out(self.gone)


def _pivot(M: np.ndarray, R: np.ndarray, block: np.ndarray) -> None:
    """Sweep a block out of a symmetric matrix and a right side, in place."""
    column = M[:, block]
    factor = np.linalg.solve(column[block], column.T)
    R -= factor.T @ R[block]
    dgemm(-1.0, column, factor, 1.0, M.T, overwrite_c=True)  # M is symmetric
