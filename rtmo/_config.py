"""The one base class of every setting in this project."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen group of settings; an unknown key is an error, not a silent default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
