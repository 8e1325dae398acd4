"""Times a peer package's corruptions in its own environment; called by corruptions.py, prints JSON.

    PYTHON corruptions_peer.py MODULE IMAGES.npy KIND,KIND,...

Milliseconds of one core an image, kind by kind, five severities each; null for a kind that fails.
"""

import importlib
import json
import os
import sys
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402  # after the thread counts


def main() -> None:
    """Time every kind on every image, after one call that compiles and loads."""
    module, file, kinds = sys.argv[1:]
    peer = importlib.import_module(module)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    images = np.load(file)
    found: dict[str, list[float | None]] = {}
    for kind in kinds.split(","):
        found[kind] = [milliseconds(peer, kind, severity, images) for severity in range(1, 6)]
    print(json.dumps(found))


def milliseconds(peer: object, kind: str, severity: int, images: np.ndarray) -> float | None:
    """Return the time an image, or None where the peer fails."""
    try:
        peer.corrupt(images[0], corruption_name=kind, severity=severity)  # type: ignore[attr-defined]
        start = time.process_time()
        for image in images:
            peer.corrupt(image, corruption_name=kind, severity=severity)  # type: ignore[attr-defined]
    except Exception:
        return None
    return 1000 * (time.process_time() - start) / len(images)


if __name__ == "__main__":
    main()
