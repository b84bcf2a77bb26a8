"""The one place where results leave the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["OnHost"]


class OnHost:
    """A tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.is_cuda:
            # PyTorch's host allocator hands out pinned blocks again only when their copies are done.
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
            self._tensor = pinned.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(tensor.device))
        else:
            self._tensor = tensor

    def numpy(self) -> NDArray[np.float64]:
        """Its values; waits for the copy, so never call it on the training thread."""
        if self._event is not None:
            self._event.synchronize()
        return np.asarray(self._tensor.cpu().numpy(), dtype=np.float64)
