"""Whether a logistic regression has a finite maximum of its likelihood. Pure."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def has_finite_fit(design: Matrix, successes: Matrix, failures: Matrix) -> bool:
    """Whether the maximum exists and is unique: columns independent, successes and failures not separated.

    They are separated if some direction raises the fitted probability of a success, lowers that of no other one, and
    does the opposite for failures (Albert & Anderson, On the Existence of Maximum Likelihood Estimates in Logistic
    Regression Models, Biometrika 71, 1984). A linear programme looks for such a direction.

    Args:
        design: shape (rows, coefficients).
        successes, failures: counts or weights, shape (rows,); a row may have both.
    """
    return is_identified(design) and not _is_separated(design, successes, failures)


def is_identified(design: Matrix) -> bool:
    """Whether no column follows from the others, so that every coefficient has a meaning."""
    return bool(np.linalg.matrix_rank(design) == design.shape[1])


def _is_separated(design: Matrix, successes: Matrix, failures: Matrix) -> bool:
    from scipy.optimize import linprog

    # Each row is to move towards what was seen of it; a row with both is held in place by its two signs.
    seen = np.concatenate([design[successes > 0], -design[failures > 0]])
    # The box only bounds the programme: a direction can be scaled.
    solution = linprog(-seen.sum(axis=0), A_ub=-seen, b_ub=np.zeros(len(seen)), bounds=(-1, 1))
    return bool(-solution.fun > 1e-6 * len(seen))  # the solver lets each row miss its bound by 1e-7
