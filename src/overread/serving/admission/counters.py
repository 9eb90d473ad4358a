"""What a server has done, as Prometheus reads it: counts and times by action, and nothing about whom.

Each worker counts in a small file that all workers see, so any of them can tell the sum, and what a worker counted
that has died stays counted. Format: Prometheus text exposition 0.0.4.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: What reads images.
READING = ("predict", "outline", "explain", "similar", "view", "batch")
ACTIONS = (*READING, "slides", "slide", "skipped", "tile", "session", "page", "about", "report", "model-card", "metrics", "healthz",
           "openapi.json", "other")  # fmt: skip
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
#: Upper ends of the histogram of seconds.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WIDTH = len(_CLASSES) + len(_SECONDS) + 5  # the last bucket, seconds, bytes in and out, images


class Counters:
    """Counts (actions, :data:`_WIDTH`) of this worker; with a ``folder``, also of the workers that share it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.running, self.waiting = 0, 0
        shape = (len(ACTIONS), _WIDTH)
        self._own: NDArray[np.float64] = np.zeros(shape)
        if folder is not None:
            self._own = np.memmap(folder / f"counts-{os.getpid()}", np.float64, "w+", shape=shape)

    def add(self, action: str, status: int, seconds: float, received: int, sent: int, images: int) -> None:
        """Count one request."""
        row = self._own[ACTIONS.index(action)]
        with self._lock:
            row[min(max(status // 100, 1), 5) - 1] += 1
            row[len(_CLASSES) + int(np.searchsorted(_SECONDS, seconds))] += 1
            row[-4:] += (seconds, received, sent, images)

    def total(self) -> NDArray[np.float64]:
        """The sum over all workers."""
        if self._folder is None:
            return self._own.copy()
        files = self._folder.glob("counts-*")
        return np.sum([np.fromfile(file, np.float64).reshape(-1, _WIDTH) for file in files], axis=0)

    def text(self) -> str:
        """All counts, as Prometheus reads them."""
        total = self.total()
        lines = _head("overread_requests_total", "counter", "Requests by action and class of status.")
        for action, row in zip(ACTIONS, total, strict=True):
            lines += [f'overread_requests_total{{action="{action}",status="{name}"}} {row[i]:.0f}'
                      for i, name in enumerate(_CLASSES) if row[i]]  # fmt: skip
        lines += _head(
            "overread_request_seconds", "histogram", "Seconds of a request, its upload and its wait included."
        )
        for action, row in zip(ACTIONS, total, strict=True):
            buckets = np.cumsum(row[len(_CLASSES) : len(_CLASSES) + len(_SECONDS) + 1])
            if not buckets[-1]:
                continue
            ends = [f"{end:g}" for end in _SECONDS] + ["+Inf"]
            lines += [f'overread_request_seconds_bucket{{action="{action}",le="{end}"}} {count:.0f}'
                      for end, count in zip(ends, buckets, strict=True)]  # fmt: skip
            lines += [f'overread_request_seconds_sum{{action="{action}"}} {row[-4]:.6f}',
                      f'overread_request_seconds_count{{action="{action}"}} {buckets[-1]:.0f}']  # fmt: skip
        for name, at, told in (("received_bytes", -3, "Bytes of requests."), ("sent_bytes", -2, "Bytes of answers."),
                               ("images", -1, "Images taken in to be read.")):  # fmt: skip
            lines += [
                *_head(f"overread_{name}_total", "counter", told),
                f"overread_{name}_total {total[:, at].sum():.0f}",
            ]
        for name, value, told in (("running", self.running, "Images being read by this worker."),
                                  ("waiting", self.waiting, "Requests that wait in this worker.")):  # fmt: skip
            lines += [*_head(f"overread_{name}", "gauge", told), f"overread_{name} {value}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
