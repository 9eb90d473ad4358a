"""What every image is, in one pass over the files, and which of them are the same: duplicates, and groups kept together."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.described_rows import DescribedRows, file_state
from overread.cases.cases import Cases, paths
from overread.core.errors import InputError, checked, require
from overread.core.files import cores
from overread.core.progress import Progress, silent
from overread.images.address import file_of
from overread.images.perceptual_hash import NOTHING, THUMB, describe

#: Of the cache: its version is raised when a column changes its meaning.
_KEPT = DescribedRows("fingerprints", 7, NOTHING, {"phash": np.uint64})


@checked
def take_fingerprints(
    cases: Cases, *, threads: int = 0, progress: Progress = silent, cache: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """One row per image of ``cases``, in their order; an image that cannot be read has its reason in ``error``.

    Columns: ``error``, ``digest`` (SHA-256 of the file's bytes), ``pixels`` (hash of what was decoded: equal for equal
    images in different files), ``phash`` (perceptual hash, uint64), ``height``, ``width``, ``depth`` (1 for an image),
    ``channels``, ``bits``, ``mode``, ``format``, ``mean`` and ``std`` (of the full scale, 0 to 1), ``notes``,
    ``thumb`` (a likeness of 32 × 32 bytes), ``border`` (the part of a flat image that is black border, 0 to 1),
    ``circle`` (whether it is a circular field), ``haematoxylin`` and ``eosin`` (of slides: how much redder than blue the two stains are, 0 of others),
    ``microns``, ``levels``, ``glass_red``, ``glass_green`` and ``glass_blue`` (of slides: a pixel, the pyramid, the colour of the glass; 0 of others), ``text`` (burned-in text boxes). ``cache``: a folder that keeps results
    by path, size and time of change. ``threads``: processes that decode, 0 for as many as there are cores; a file that
    crashes one is a row with an ``error`` (see :mod:`overread.core.sandbox`). No image stays in memory.
    """
    addresses = paths(cases)
    return _KEPT.describe(describe, [(address,) for address in addresses], _keys(addresses), what="reading images", threads=threads,
                          progress=progress, cache=cache)  # fmt: skip


def _keys(addresses: Sequence[str]) -> list[str]:
    """A key for each image from its path, size and time of change."""
    state = functools.cache(file_state)
    return [_KEPT.key(os.path.abspath(one), state(_file_of(one)) + _beside(one, state)) for one in addresses]


def _file_of(address: str) -> str:
    try:
        return file_of(address)
    except InputError:  # an address with numbers that are none: reading it says so
        return address


def _beside(address: str, state: Callable[[str], str]) -> str:
    """A series changes when a file comes into its folder, or goes."""
    series = address.endswith("#series") or "#series&" in address
    return f"|{state(os.path.dirname(_file_of(address)) or '.')}" if series else ""


# -- near-duplicates: candidates by perceptual hash, confirmed by laying one likeness over the other ---------------

# A hash alone says too much: two chest radiographs of different children differ in as few bits as one radiograph and
# its shifted copy. So a candidate counts only if gain, offset, a small shift and a small scale explain all but 0.8 % of
# the variance of the blurred likenesses, which no two different images of the test sets reach.


#: Largest unexplained share of variance of a near-duplicate, on likenesses of 32 × 32 blurred by one pixel.
UNEXPLAINED = 0.008
#: Unexplained share of the first try up to which warping and trying again is worth it.
NEARLY = 0.06
_ROWS, _COLUMNS = 64, 2048  # a tile of distances that stays in the cache
_MARGIN = 3  # pixels at the border that a shift may spoil


@checked
def near_duplicates(
    phash: NDArray[np.uint64], *, distance: int = 12, limit: int | None = None, threads: int = 0
) -> NDArray[np.int64]:
    """Pairs (P, 2), i < j, of hashes that differ in at most ``distance`` bits; exact, in tiles, without a table.

    ``limit``: where more pairs than this are found, the distance is lowered until they are fewer (None: 5 pairs an
    image, at least 200,000). 100,000 hashes take seconds: the work is quadratic, the memory is not.

    >>> near_duplicates(np.array([0, 255, 1], np.uint64), distance=1).tolist()
    [[0, 2]]
    """
    require(0 <= distance <= 64, "distance is between 0 and 64 bits", given=distance)
    most, hashes = limit if limit is not None else max(200_000, 5 * len(phash)), np.ascontiguousarray(phash)
    pairs, count = [np.empty((0, 3), np.int64)], 0  # (n, 3): i, j, distance

    def pairs_from(start: int) -> NDArray[np.int64]:
        return _pairs_from(hashes, start, distance)  # as low as it is when this begins

    with ThreadPoolExecutor(threads or cores()) as pool:
        for found in pool.map(pairs_from, range(0, len(hashes), _ROWS)):
            pairs.append(found[found[:, 2] <= distance])
            count += len(pairs[-1])
            while count > most and distance > 0:
                distance -= 1
                pairs = [some[some[:, 2] <= distance] for some in pairs]
                count = sum(map(len, pairs))
    return np.concatenate(pairs)[:, :2]


def _pairs_from(phash: NDArray[np.uint64], start: int, distance: int) -> NDArray[np.int64]:
    """Pairs (n, 3) whose first image is one of ``_ROWS`` from ``start``."""
    found = _crossing(phash[start : start + _ROWS], phash[start:], distance) + np.array([start, start, 0])
    return found[found[:, 0] < found[:, 1]]


def _crossing(mine: NDArray[np.uint64], others: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """(n, 3): i, j and the bits in which ``mine[i]`` and ``others[j]`` differ, at most ``distance``."""
    found, tile = [np.empty((0, 3), np.int64)], np.empty((len(mine), _COLUMNS), np.uint64)
    for left in range(0, len(others), _COLUMNS):
        some = others[left : left + _COLUMNS]
        bits = _count_bits(np.bitwise_xor(mine[:, None], some, out=tile[:, : len(some)]))
        i, j = np.divmod(np.flatnonzero(bits <= distance), len(some))
        found.append(np.stack([i, j + left, bits[i, j]], 1))
    return np.concatenate(found)


@checked
def near_pairs(
    one: NDArray[np.uint64], other: NDArray[np.uint64], *, distance: int = 12, threads: int = 0
) -> NDArray[np.int64]:
    """Pairs (P, 2), of ``one`` (N,) and of ``other`` (M,), of hashes that differ in at most ``distance`` bits.

    >>> near_pairs(np.array([0, 255], np.uint64), np.array([1, 7], np.uint64), distance=1).tolist()
    [[0, 0]]
    """
    starts = range(0, len(one), _ROWS)
    with ThreadPoolExecutor(threads or cores()) as pool:
        found = pool.map(
            lambda start: _crossing(one[start : start + _ROWS], other, distance) + np.array([start, 0, 0]), starts
        )
        return np.concatenate([np.empty((0, 3), np.int64), *found])[:, :2]


_BITS = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


def _count_bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(words)
    return _BITS[words.view(np.uint16)].reshape(*words.shape, 4).sum(-1, dtype=np.uint8)


@checked
def similar(table: pd.DataFrame, *, distance: int = 12, threads: int = 0) -> NDArray[np.int64]:
    """Confirmed near-duplicates (P, 2) of a fingerprint table, as positions i < j; one of several equal images stands
    for all.

    Unreadable and near-constant images are left out: there is nothing in them to compare.
    """
    rows = np.flatnonzero((table["error"] == "") & (table["std"] > BLANK) & ~table["pixels"].duplicated())
    pairs = rows[near_duplicates(table["phash"].to_numpy()[rows], distance=distance, threads=threads)]
    close = unexplained(table["thumb"].to_numpy(), pairs, threads=threads) <= UNEXPLAINED
    return pairs[close]


#: Standard deviation, as a share of the full scale, below which an image counts as blank.
BLANK = 0.004


@checked
def unexplained(thumb: NDArray, pairs: NDArray[np.int64], *, threads: int = 0) -> NDArray[np.float64]:
    """Share of variance of each pair's second likeness that its first cannot explain, shape (P,).

    ``thumb`` (N,) holds 32 × 32 bytes each. Least squares on gain, offset and the derivatives for shift and scale
    (Lucas & Kanade 1981), repeated after warping where the first try came near.
    """
    if not len(pairs):
        return np.empty(0)
    used, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(pairs.shape)
    soft = _blurred(thumb[used])
    order = np.argsort(place[:, 0], kind="stable")
    chunks = np.split(order, np.flatnonzero(np.diff(place[order, 0])) + 1)  # pairs of one first image each
    share = np.empty(len(pairs))
    with ThreadPoolExecutor(threads or cores()) as pool:
        for mine, found in zip(chunks, pool.map(lambda mine: _with_first(soft, place[mine]), chunks)):
            share[mine] = found
    return share


def _blurred(thumb: NDArray) -> NDArray[np.uint8]:
    import cv2

    images = np.frombuffer(b"".join(thumb), np.uint8).reshape(-1, THUMB, THUMB)
    return np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in images])


def _with_first(soft: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    first, second = soft[pairs[0, 0]].astype(np.float32), soft[pairs[:, 1]]
    share, move = _fit(first, second)
    for i in np.flatnonzero((share > UNEXPLAINED) & (share < NEARLY)):
        share[i] = min(share[i], _refined(first, second[i : i + 1], move[i]))
    return share


def _refined(first: NDArray[np.float32], second: NDArray[np.uint8], move: NDArray[np.float64]) -> float:
    """The best share after warping by ``move`` and fitting again, twice."""
    best = 1.0
    for _ in range(2):
        share, step = _fit(_warp(first, move), second)
        best, move = min(best, float(share[0])), move + step[0]
    return best


_INNER = (slice(_MARGIN, -_MARGIN),) * 2
_Y, _X = np.mgrid[-1 : 1 : THUMB * 1j, -1 : 1 : THUMB * 1j].astype(np.float32)


def _fit(first: NDArray[np.float32], second: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How one image (32, 32) explains others (P, 32, 32): the share left over (P,), and the move (P, 3) that does it.

    A move is the shift in x, in y, and the shift of the border by a change of scale, in pixels.
    """
    down, right = np.gradient(first)
    terms = [np.ones_like(first), first, right, down, right * _X + down * _Y]
    design = np.stack([t[_INNER].ravel() for t in terms]).astype(np.float64)  # (5, n)
    wanted = second[:, _INNER[0], _INNER[1]].reshape(len(second), -1).astype(np.float64)  # (P, n)
    wanted -= wanted.mean(1, keepdims=True)
    weights = np.linalg.solve(design @ design.T + 1e-3 * np.eye(5), design @ wanted.T).T  # (P, 5)
    rest = wanted - weights @ design
    share = (rest**2).mean(1) / np.maximum((wanted**2).mean(1), 1e-3)
    gain = np.where(np.abs(weights[:, 1]) > 1e-3, weights[:, 1], 1.0)
    return share, np.clip(weights[:, 2:] / gain[:, None], -3.0, 3.0)


def _warp(image: NDArray[np.float32], move: NDArray[np.float64]) -> NDArray[np.float32]:
    import cv2

    middle, scale = (THUMB - 1) / 2, 1.0 + move[2] * 2 / (THUMB - 1)
    matrix = np.array([[scale, 0, move[0] + middle * (1 - scale)], [0, scale, move[1] + middle * (1 - scale)]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, matrix, (THUMB, THUMB), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return warped.astype(np.float32, copy=False)


@checked
def exact(table: pd.DataFrame) -> NDArray[np.int64]:
    """Pairs (P, 2) of equal decoded pixels: each copy with the first that is equal; blank images are left out."""
    rows = np.flatnonzero((table["error"] == "") & (table["std"] > BLANK))
    firsts, code = np.unique(table["pixels"].to_numpy(str)[rows], return_index=True, return_inverse=True)[1:]
    copies = firsts[code] != np.arange(len(rows))
    return np.stack([rows[firsts[code]], rows], 1)[copies]


def components(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number per item, equal for items that pairs connect, shape (count,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


# -- groups of images that must stay together: a patient's, and those that duplicates tie to each other -----------


def longest(patients: int) -> int:
    """Patients of so many that near-duplicates may tie together: 1 %, at least 20.

    A longer chain says that the images are alike rather than the same, and would make one group of the whole set.
    """
    return max(20, patients // 100)


@dataclass(frozen=True, eq=False)
class Groups:
    """``of`` (N,): the group of each image; ``names`` (G,): its first patient; ``loosened``: near links left out."""

    of: NDArray[np.int64]
    names: NDArray
    loosened: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images in each group, shape (G,)."""
        return np.bincount(self.of, minlength=len(self.names))


@checked
def group(table: pd.DataFrame, by: str, pairs: Iterable[tuple[str, str, str]] = ()) -> Groups:
    """Groups of the rows of a table of cases by patient, tied together by the column ``by`` and by duplicates.

    ``pairs``: (case, case, "exact" or "near"). Numbers and names do not depend on the order of the rows.
    """
    owner, patients = pd.factorize(table["patient"].astype(str), sort=True)
    exact, near = _links(table["case"], owner, pairs)
    tied = components(len(patients), np.concatenate([exact, _same(table[by], owner)]))
    whole = _joined(tied, near)
    long = _distinct(whole, tied) > longest(len(patients))
    loose = long[whole[near[:, 0]]]
    final = _joined(tied, near[~loose])
    firsts = np.unique(final, return_index=True)[1]  # patients are sorted: the first of a group is its smallest
    return Groups(final[owner], np.asarray(patients, dtype=object)[firsts], int(loose.sum()))


def _joined(tied: NDArray[np.int64], near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Components of items that are in one group of ``tied`` or linked by ``near``."""
    return components(int(tied.max(initial=-1)) + 1, tied[near])[tied]


def _distinct(whole: NDArray[np.int64], tied: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many groups of ``tied`` each group of ``whole`` holds."""
    both = np.unique(np.stack([whole, tied]), axis=1)
    return np.bincount(both[0], minlength=int(whole.max(initial=-1)) + 1)


def _same(values: pd.Series, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Links (n, 2) from the first owner of each value to its others; blanks tie nobody."""
    text = values.fillna("").astype(str).to_numpy(object)
    code = pd.factorize(text)[0]
    first = owner[np.unique(code, return_index=True)[1]]
    return np.stack([first[code], owner], 1)[text != ""]


def _links(
    case: pd.Series, owner: NDArray, pairs: Iterable[tuple[str, str, str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Links between owners (n, 2) by exact and by near duplicates; cases that are not in the table have none."""
    known = pd.DataFrame(list(pairs), columns=["first", "second", "kind"], dtype=object)
    first = ~case.duplicated().to_numpy()
    place = pd.Index(case[first])
    ends = np.stack([place.get_indexer(known["first"]), place.get_indexer(known["second"])], 1)
    here, exact = (ends >= 0).all(1), (known["kind"] == "exact").to_numpy(bool)
    owners = owner[first]
    return owners[ends[here & exact]], owners[ends[here & ~exact]]
