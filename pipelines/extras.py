"""Optional packages: told by name where they are missing, before work begins."""

from importlib.util import find_spec

from components.core.errors import Rejected


def require_tensorflow(what: str, *, without: str) -> None:
    """Refuse work that needs TensorFlow where it is not installed; nothing is imported.

    Args:
        what: The work.
        without: What can be done instead.

    Raises:
        Rejected: TENSORFLOW_NOT_INSTALLED.
    """
    if find_spec("tensorflow") is None:
        raise Rejected(
            f"{what} needs the package tensorflow, which is not installed here",
            expected="the extra `tensorflow`",
            got="not installed",
            fix=f"pip install 'slipway[tensorflow]', or {without}",
            reason="TENSORFLOW_NOT_INSTALLED",
        )
