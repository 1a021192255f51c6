"""What is learnt from given data: an algorithm's name and its parameters, as JSON keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """All that decides what is learnt from given data; `parameters` are plain values that JSON keeps."""

    algorithm: str
    parameters: Parameters = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        return {"algorithm": self.algorithm, "parameters": dict(self.parameters)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Recipe:
        return cls(document["algorithm"], document["parameters"])
