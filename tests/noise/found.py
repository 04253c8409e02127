"""Files of found schedules, as a search would write them."""

import json
from pathlib import Path
from typing import Any

LEVELS = (80.0, 10.0, 1.0, 0.002)
CONTENT: dict[str, Any] = {
    "sigmas": LEVELS,
    "indices": (0, 17, 35, 60),
    "metric": "dev",
    "gamma": 1.15,
    "afs": False,
    "model": "of another",
    "solver": {"name": "euler"},
    "teacher": {"name": "ipndm", "order": 4},
    "schedule": {"name": "polynomial", "rho": 7.0},
    "fine_intervals": 60,
    "trajectories": 256,
    "recipe": "a digest",
}


def write_found(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(CONTENT | changes))
    return path
