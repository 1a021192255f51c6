"""Item-item models in closed form. Pure: numpy in and out; memory grows with the square of the number of items.

EASE^R: Steck, Embarrassingly Shallow Autoencoders for Sparse Data (2019), equation 8. Co-occurrence: the similarity of
Microsoft's SAR, Jaccard's index of who met the two items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
_USERS = 1_000  # at a time: a dense row each


def gram(users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], values: Matrix, n_items: int) -> Matrix:
    """X'X (items x items) of the users x items matrix X with these values; of equal places the last one counts."""
    total = np.zeros((n_items, n_items))
    order = np.argsort(users, kind="stable")
    for rows in _by_users(users[order]):
        chosen = order[rows]
        _, part = dense(users[chosen], items[chosen], values[chosen], n_items)
        total += part.T @ part
    return total


def dense(
    users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], values: Matrix, n_items: int
) -> tuple[npt.NDArray[np.int64], Matrix]:
    """The users that are there, ascending, and their rows (users x items)."""
    known, rows = np.unique(users, return_inverse=True)
    matrix = np.zeros((len(known), n_items))
    matrix[rows, items] = values
    return known, matrix


def ease(gram: Matrix, regularization: float) -> Matrix:
    """B (items x items), zero on its diagonal, for which X B is closest to X, with `regularization` times |B|^2
    added."""
    penalized = gram + regularization * np.eye(len(gram))
    inverse = np.linalg.inv(penalized)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def jaccard(together: Matrix) -> Matrix:
    """Of the users who met one of two items, the share who met both; `together` counts users, each alone on the
    diagonal. An item that nobody met is like none."""
    alone = np.diag(together)
    either = alone[:, None] + alone[None, :] - together
    return np.divide(together, either, out=np.zeros_like(together), where=either > 0)


def _by_users(users: npt.NDArray[np.int64]) -> list[slice]:
    """Slices of sorted users, so many users in each."""
    starts = np.flatnonzero(np.diff(users, prepend=-1))[::_USERS]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(users)], strict=True)] if len(users) else []
