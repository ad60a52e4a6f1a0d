#!/usr/bin/env python3
"""Reads event files back with TensorBoard's own reader (pip install tensorboard).

Usage: read_events.py RUN_DIR/tensorboard
Prints one JSON object: tag -> [[step, value], ...]. A step that a resumed run wrote anew is there
once, as TensorBoard shows it.
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
    scalars = {
        tag: [[event.step, event.value] for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    json.dump(scalars, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
