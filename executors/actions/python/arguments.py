"""What a `python` step may say: code or where it is kept, the packages it wants, how far it is kept apart."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from executors import contract
from executors.auth import Auth

VERBATIM: Final[JsonDict] = {"x-noetl-template": "verbatim"}
PLACES: Final = ("file", "http", "s3", "gcs")
PACKAGE: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9,._ -]+\])?"
VERSIONS: Final = (
    r"\s*((===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+(\s*,\s*(==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+)*)?$"
)


class Script(BaseModel):
    """Where the code is kept: one place of the four. `sha256` is the digest that it must have."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"oneOf": [{"required": [place]} for place in PLACES]})

    file: str | None = Field(None, min_length=1, max_length=1000, description="A file in the worker's scripts folder.")
    http: str | None = Field(None, min_length=1, max_length=4000, description="An http or https address.")
    s3: str | None = Field(None, min_length=1, max_length=2000, description="s3://BUCKET/KEY")
    gcs: str | None = Field(None, min_length=1, max_length=2000, description="gs://BUCKET/NAME")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="In hexadecimal.")

    @model_validator(mode="after")
    def _one_place(self) -> Script:
        if sum(getattr(self, place) is not None for place in PLACES) != 1:
            raise ValueError(f"give exactly one of {', '.join(PLACES)}")
        return self

    @property
    def source(self) -> tuple[str, str]:
        """The place and the address there."""
        return next((place, address) for place in PLACES if (address := getattr(self, place)) is not None)


class PythonArguments(contract.Arguments):
    """`code` defines `main`, which is called with the step's inputs, or sets `result`; `script` says where it is kept.

    `auth` names the credential that the script is read with. `isolation` is how far the step wants to be kept apart
    from others; without it the worker's level counts.
    """

    code: str | None = Field(None, min_length=1, json_schema_extra=VERBATIM)
    script: Script | None = Field(None, json_schema_extra=VERBATIM)
    auth: Auth | None = None
    use_auth: str | None = None
    dependencies: list[str] | None = Field(None, max_length=50, json_schema_extra=VERBATIM)
    isolation: Literal["turn", "job", "bwrap"] | None = None

    @model_validator(mode="after")
    def _one_code(self) -> PythonArguments:
        if (self.code is None) == (self.script is None):
            raise ValueError("give either code or script")
        if self.auth is not None and self.script is None:
            raise ValueError("auth is for a script: give code what it needs as an input, with {{ secret.NAME }}")
        return self
