"""Results of a GPU on their way to the host, without waiting for work that was queued later."""

import numpy as np
import torch


class HostCopy:
    """Values of a tensor on their way to the host.

    Reading a device tensor waits for all work queued so far. The copy is queued at once instead, and reading it later
    waits only for the work before it. Make it in the thread, and with the current stream, that computes the values.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values.to("cpu", non_blocking=values.is_cuda)  # torch puts it into pinned memory.
        self._arrival = torch.cuda.Event(blocking=True) if values.is_cuda else None
        if self._arrival is not None:
            self._arrival.record(torch.cuda.current_stream(values.device))

    def numpy(self) -> np.ndarray:
        """The values; waits until they have arrived."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._values.numpy()
