"""How the schema of evidence may grow without changing what was written before."""

from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from manifests.spec import Frozen


class Grown(Frozen):
    """Evidence whose schema got fields after its first release.

    What was added later and says nothing is not written: an old record stays the same text, so that the digest its
    successors know it by stays true.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        silent = {name for name in self.ADDED if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in written.items() if name not in silent}
