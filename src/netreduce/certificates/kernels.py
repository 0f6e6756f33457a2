"""Loops over rows, compiled by Numba: they look up each window's part of a map by themselves.

Maps are (samples, height, width, channels), vectors maps of one position. `place[r]` is the sample
of row r, or r itself where every row has a map of its own.
"""

import numba
import numpy as np

UNIT = 2.0**-53  # rounding error of one operation


@numba.njit(nogil=True, cache=True)
def mask(values: np.ndarray, origin: np.ndarray, height: int, width: int) -> None:
    """Put zeros where windows reach beyond the map."""
    for r in range(values.shape[0]):
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                row, column = y + origin[r, 0], x + origin[r, 1]
                if row < 0 or row >= height or column < 0 or column >= width:
                    values[r, y, x, :] = 0.0


@numba.njit(nogil=True, cache=True)
def put(values: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    """Put windows into larger ones of zeros, each at its offset; what reaches beyond is lost."""
    for r in range(values.shape[0]):
        for y in range(values.shape[1]):
            row = y + offset[r, 0]
            if row < 0 or row >= out.shape[1]:
                continue
            for x in range(values.shape[2]):
                column = x + offset[r, 1]
                if 0 <= column < out.shape[2]:
                    for c in range(values.shape[3]):
                        out[r, row, column, c] = values[r, y, x, c]


@numba.njit(nogil=True, cache=True)
def add_sizes(values: np.ndarray, origin: np.ndarray, total: np.ndarray) -> None:
    """total += Σ |values[r]| over all windows r; total (height, width, channels)."""
    for r in range(values.shape[0]):
        for y in range(values.shape[1]):
            row = y + origin[r, 0]
            if row < 0 or row >= total.shape[0]:
                continue
            for x in range(values.shape[2]):
                column = x + origin[r, 1]
                if 0 <= column < total.shape[1]:
                    for c in range(values.shape[3]):
                        total[row, column, c] += abs(values[r, y, x, c])


@numba.njit(nogil=True, cache=True)
def scale(values: np.ndarray, origin: np.ndarray, factor: np.ndarray, out: np.ndarray) -> None:
    """out = values · factor, which is a map; zero outside it."""
    for r in range(values.shape[0]):
        for y in range(values.shape[1]):
            row = y + origin[r, 0]
            inside_row = 0 <= row < factor.shape[0]
            for x in range(values.shape[2]):
                column = x + origin[r, 1]
                if inside_row and 0 <= column < factor.shape[1]:
                    for c in range(values.shape[3]):
                        out[r, y, x, c] = values[r, y, x, c] * factor[row, column, c]
                else:
                    out[r, y, x, :] = 0


@numba.njit(nogil=True, cache=True)
def sums(
    values: np.ndarray, origin: np.ndarray, place: np.ndarray, weight: np.ndarray, sizes: bool
) -> np.ndarray:
    """Σ values[r] · weight[place[r]] of each row, windows inside the map; of magnitudes of values
    where asked.
    """
    totals = np.zeros(values.shape[0])
    for r in range(values.shape[0]):
        s = place[r]
        total = 0.0
        for y in range(values.shape[1]):
            row = y + origin[r, 0]
            if row < 0 or row >= weight.shape[1]:
                continue
            for x in range(values.shape[2]):
                column = x + origin[r, 1]
                if column < 0 or column >= weight.shape[2]:
                    continue
                for c in range(values.shape[3]):
                    value = values[r, y, x, c]
                    total += (abs(value) if sizes else value) * weight[s, row, column, c]
        totals[r] = total
    return totals


@numba.njit(nogil=True, cache=True)
def relax(
    values: np.ndarray,
    origin: np.ndarray,
    place: np.ndarray,
    lower_slope: np.ndarray,
    lower_shift: np.ndarray,
    upper_slope: np.ndarray,
    upper_shift: np.ndarray,
    magnitude: np.ndarray,
    constant: np.ndarray,
    slack: np.ndarray,
) -> None:
    """Replace forms in the outputs of a function by forms in its inputs that are nowhere larger.

    Positive coefficients take the lower line, negative ones the upper line. `magnitude` bounds the
    inputs; slack gets the rounding of the products.
    """
    for r in range(values.shape[0]):
        s = place[r]
        total, size, count = 0.0, 0.0, 1.0
        for y in range(values.shape[1]):
            row = y + origin[r, 0]
            inside_row = 0 <= row < magnitude.shape[1]
            for x in range(values.shape[2]):
                column = x + origin[r, 1]
                if not inside_row or column < 0 or column >= magnitude.shape[2]:
                    for c in range(values.shape[3]):
                        values[r, y, x, c] = 0.0
                    continue
                for c in range(values.shape[3]):
                    a = values[r, y, x, c]
                    if a == 0.0:
                        continue
                    if a > 0.0:
                        slope = lower_slope[s, row, column, c]
                        shift = lower_shift[s, row, column, c]
                    else:
                        slope = upper_slope[s, row, column, c]
                        shift = upper_shift[s, row, column, c]
                    new = a * slope
                    values[r, y, x, c] = new
                    total += a * shift
                    size += abs(new) * magnitude[s, row, column, c] + abs(a * shift)
                    count += 1.0
        constant[r] += total
        slack[r] += (count + 2.0) * UNIT * size


@numba.njit(nogil=True, cache=True)
def relax_pair(
    first: np.ndarray,
    second: np.ndarray,
    origin: np.ndarray,
    place: np.ndarray,
    first_lines: np.ndarray,
    second_lines: np.ndarray,
    difference_lines: np.ndarray,
    middle: np.ndarray,
    middle_difference: np.ndarray,
    first_size: np.ndarray,
    second_size: np.ndarray,
    steepness: float,
    constant: np.ndarray,
    slack: np.ndarray,
) -> None:
    """Replace forms p · f(y) + q · f(z) by forms in y and z that are nowhere larger.

    Three ways, the best of them in the middle: by the lines around f(y) and f(z); as
    (p + q) · f(y) + q · (f(z) − f(y)); as (p + q) · f(z) − p · (f(z) − f(y)). The lines are arrays
    (4, maps), lower slope and shift, upper slope and shift; those of the difference are lines in
    z − y.
    """
    for r in range(first.shape[0]):
        s = place[r]
        total, size, count = 0.0, 0.0, 1.0
        for i in range(first.shape[1]):
            row = i + origin[r, 0]
            inside_row = 0 <= row < middle.shape[1]
            for j in range(first.shape[2]):
                column = j + origin[r, 1]
                if not inside_row or column < 0 or column >= middle.shape[2]:
                    for c in range(first.shape[3]):
                        first[r, i, j, c] = 0.0
                        second[r, i, j, c] = 0.0
                    continue
                for c in range(first.shape[3]):
                    p, q = first[r, i, j, c], second[r, i, j, c]
                    if p == 0.0 and q == 0.0:
                        continue
                    y = middle[s, row, column, c]
                    d = middle_difference[s, row, column, c]
                    z = y + d
                    k = 0 if p > 0.0 else 2
                    y_slope = p * first_lines[k, s, row, column, c]
                    y_shift = p * first_lines[k + 1, s, row, column, c]
                    k = 0 if q > 0.0 else 2
                    z_slope = q * second_lines[k, s, row, column, c]
                    z_shift = q * second_lines[k + 1, s, row, column, c]
                    shift = y_shift + z_shift
                    sizes = abs(y_shift) + abs(z_shift)
                    best = y_slope * y + z_slope * z + shift
                    if p * q < 0.0:
                        t = p + q
                        k = 0 if t > 0.0 else 2
                        m = 0 if q > 0.0 else 2
                        d_slope = q * difference_lines[m, s, row, column, c]
                        d_shift = q * difference_lines[m + 1, s, row, column, c]
                        t_slope = t * first_lines[k, s, row, column, c]
                        t_shift = t * first_lines[k + 1, s, row, column, c]
                        value = t_slope * y + d_slope * d + t_shift + d_shift
                        if value > best:
                            best = value
                            y_slope, z_slope = t_slope - d_slope, d_slope
                            shift = t_shift + d_shift
                            sizes = abs(t_shift) + abs(d_shift)
                        m = 0 if p < 0.0 else 2
                        d_slope = -p * difference_lines[m, s, row, column, c]
                        d_shift = -p * difference_lines[m + 1, s, row, column, c]
                        t_slope = t * second_lines[k, s, row, column, c]
                        t_shift = t * second_lines[k + 1, s, row, column, c]
                        value = t_slope * z + d_slope * d + t_shift + d_shift
                        if value > best:
                            best = value
                            y_slope, z_slope = -d_slope, t_slope + d_slope
                            shift = t_shift + d_shift
                            sizes = abs(t_shift) + abs(d_shift)
                    first[r, i, j, c], second[r, i, j, c] = y_slope, z_slope
                    total += shift
                    size += sizes + (abs(p) + abs(q) + abs(y_slope) + abs(z_slope)) * (
                        first_size[s, row, column, c] + second_size[s, row, column, c]
                    )
                    count += 1.0
        constant[r] += total
        slack[r] += (count + 6.0) * UNIT * size * steepness


def flat(values: np.ndarray) -> np.ndarray:
    """Values of any shape but images as maps of one position."""
    return values if values.ndim == 4 else values.reshape(len(values), 1, 1, -1)
