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
    """Give `code` or `script`. The inputs of a step are the arguments of `main`, by their names; one with a default may
    be missing, and `**others` takes the rest. A `main` of one argument that no input is called like gets all of them as
    a map. It may be `async`.

    The code sees `context` (a map of `execution_id`, `node_id`, `step`, `attempt`, `effect_key`, `inputs`), `logger`,
    `datetime`, `json`, `os` and `uuid`, and what it imports or defines itself. What it prints and logs goes to the
    execution's log.
    """

    code: str | None = Field(
        None, min_length=1, description="defines `main`, or sets `result`", json_schema_extra=VERBATIM
    )
    script: Script | None = Field(
        None,
        description="where the code is kept: a map of `file`, `http`, `s3` or `gcs`, and maybe `sha256`",
        json_schema_extra=VERBATIM,
    )
    auth: Auth | None = Field(None, description="the credential that the script is read with")
    use_auth: str | None = Field(None, description="the one of `auth` that counts")
    dependencies: list[str] | None = Field(
        None,
        max_length=50,
        description="packages with their versions, of those that the worker allows",
        json_schema_extra=VERBATIM,
    )
    isolation: Literal["turn", "job", "bwrap"] | None = Field(
        None,
        description="the execution's process, one of its own, or one inside bubblewrap; else the worker's level counts",
    )

    @model_validator(mode="after")
    def _one_code(self) -> PythonArguments:
        if (self.code is None) == (self.script is None):
            raise ValueError("give either code or script")
        if self.auth is not None and self.script is None:
            raise ValueError("auth is for a script: give code what it needs as an input, with {{ secret.NAME }}")
        return self
