"""Dask: a cluster that reads the runs of a sweep; `wstrack sweep --dask ADDRESS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wstrack.errors import WstrackError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connect"]


def connect(address: str) -> Client:
    """A client of the scheduler at an address.

    Raises:
        ModuleNotFoundError: Dask is not installed.
        WstrackError: no scheduler answers there.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--dask needs Dask: pip install 'wstrack[dask]'") from error
    try:
        return Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise WstrackError(f"no scheduler of Dask answers at {address} (--dask): {error}") from error
