"""Interface of what `bench ratings` measures: contestants, which learn from ratings, and their fitted models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from processing.bench.files import Ratings


class Fitted(Protocol):
    """A recommender that has learnt from the train part."""

    def lists(self, users: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
        """(len(users) x k): a user's best items that the train part does not have, best first; -1 where there are no
        more. `users` ascend."""


@runtime_checkable
class Predictor(Fitted, Protocol):
    """A recommender that predicts ratings."""

    def predict(self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The rating expected of each pair, whose user and item are both in the train part."""


class Contestant(Protocol):
    """A recommender to be measured: it learns from ratings, with parameters out of its `grid`, defaults first."""

    @property
    def grid(self) -> Mapping[str, Sequence[Any]]: ...

    def fit(self, train: Ratings, parameters: Mapping[str, Any]) -> Fitted: ...
