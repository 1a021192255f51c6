"""The base of all sections of the settings, and the types that several of them share."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


def registered(registry: str, *usual: str) -> AfterValidator:
    """A name of `registry` ("module:MAPPING"), whose module is imported only for a name that is not `usual`."""

    def check(name: str) -> str:
        if name not in usual and name not in (names := resolve_name(registry)):
            raise ValueError(f"there are {', '.join(names)}")
        return name

    return AfterValidator(check)


class Section(BaseModel):
    """A section of the settings: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
