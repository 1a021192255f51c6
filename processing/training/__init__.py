"""Training: recommenders are searched, click models fitted, both evaluated and promoted, and written to HDFS."""

from collections.abc import Mapping, Sequence
from typing import Any

# MLlib's classifiers, see processing.training.classifiers; inner folds choose among these parameters.
CLASSIFIERS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "gbt": ({"maxDepth": 3}, {"maxDepth": 5}),
    "forest": ({"maxDepth": 7}, {"maxDepth": 11}),
    "logistic": ({"regParam": 0.0001}, {"regParam": 0.01}),
}
