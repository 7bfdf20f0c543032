"""The section ``export``: how the SavedModel is written."""

from typing import Annotated

from pydantic import Field, model_validator

from manifests.spec import Frozen


class Port(Frozen):
    """One input or output of an exported signature."""

    source: str = Field(
        "",
        description="What it is in the model: an argument, output or tensor name. Default: the alias itself, or the "
        "only one there is.",
    )
    dtype: str = Field("", description="Expected TensorFlow dtype, such as `float32`. Default: the model's own.")
    shape: tuple[int | None, ...] | None = Field(
        None, description="Expected shape, `null` for a dimension that may vary. Default: the model's own."
    )


class SignatureSpec(Frozen):
    """One signature to export: aliases that clients use."""

    inputs: dict[str, Port] = Field(description="Inputs by alias.", min_length=1)
    outputs: dict[str, Port] = Field(description="Outputs by alias.", min_length=1)


class Warmup(Frozen):
    """Requests a server replays before it says it is ready (`assets.extra/tf_serving_warmup_requests`)."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), description="Rows of each generated request. Default [1]."
    )
    seed: int = Field(0, ge=0, description="Seed of the generated values. Default 0.")


class Export(Frozen):
    """How the SavedModel is written."""

    signatures: dict[str, SignatureSpec] = Field(
        {}, description="Signatures by key, such as `serving_default`. Default: the model's own."
    )
    tags: tuple[str, ...] = Field(("serve",), min_length=1, description="The meta graph's tags. Default [serve].")
    further_tag_sets: tuple[tuple[str, ...], ...] = Field(
        (),
        description="Further tag sets under which a server may load the model, such as [[serve, gpu]]: each is a meta "
        "graph of its own, and all share one set of variables. Default none.",
    )
    up_to: str = Field(
        "",
        description="Of a Keras model: the layer whose output the export ends at, for a piece of a model. Default: "
        "the whole model.",
    )
    reusable: bool = Field(
        default=False,
        description="Whether Python code must be able to load, call and train the model further (TF Hub's interface: "
        "`__call__`, variables, trainable_variables, regularization_losses). Made of a Keras model, demanded of a "
        "SavedModel. Such a model is not optimized, which would drop its objects. Default false.",
    )
    warmup: Warmup | None = Field(
        Warmup(), description="Warm-up requests; `null` for none. Default: one of batch size 1 a signature."
    )

    @model_validator(mode="after")
    def _distinct_tag_sets(self) -> "Export":
        sets = [frozenset(tags) for tags in (self.tags, *self.further_tag_sets)]
        if len(set(sets)) < len(sets) or not all(sets):
            raise ValueError("tag sets must differ from each other, and none may be empty")
        if self.reusable and self.further_tag_sets:
            raise ValueError("reusable needs one tag set: of several, tf.saved_model.load gives no objects")
        return self
