"""Several transfers at once, ended together when one of them fails."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

WORKERS = 8
"""Transfers at once: below the ten connections that the HTTP client keeps open."""


def each(work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """Do ``work`` on every item in a few threads and return the results in the order of the items.

    The first error is raised as soon as it happens; what has not started then never does.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="slipway-store") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
