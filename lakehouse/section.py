"""What a section of the settings is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """Values that belong together; none is changed, an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
