"""Process entry of a model instance: `python -m inferoxy.runtime`, told everything by INFEROXY_INSTANCE.

Exit codes: 0 ended in order, 64 not told what to serve, 70 the model did not load (the traceback is the last thing
printed, for the launcher to show), 78 refused by the batch manager.
"""

import gc
import logging
import os
import signal
import sys
import traceback
from types import FrameType

import msgspec

from inferoxy.lifecycle import Lifecycle
from inferoxy.messages import InstanceConfig
from inferoxy.runtime import backend
from inferoxy.runtime.worker import Worker

CONFIG = "INFEROXY_INSTANCE"
NOT_TOLD, NOT_LOADED = 64, 70


def main() -> int:
    """Load the model and serve it; returns the exit code."""
    try:
        config = msgspec.json.decode(os.environ.pop(CONFIG, ""), type=InstanceConfig)
    except msgspec.DecodeError as exc:
        print(f"{CONFIG}: expected an instance's configuration as JSON: {exc}", file=sys.stderr)
        return NOT_TOLD
    level = logging.getLevelNamesMapping().get(config.log_level.upper(), logging.INFO)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    log = logging.getLogger("inferoxy.runtime")
    for number in (signal.SIGTERM, signal.SIGINT):  # a handler, because process 1 of a container has no default one
        signal.signal(number, _leave)
    try:
        model = backend.load(config)
    except Exception:
        sys.stdout.flush()
        traceback.print_exc()
        return NOT_LOADED
    log.info("loaded %s version %s as %s", config.model, config.model_version, model.signature.platform)
    gc.collect()
    gc.freeze()  # what was loaded stays: the collector need not walk it again
    lifecycle = Lifecycle()
    try:
        return Worker(config, model, lifecycle).run()
    finally:
        lifecycle.close()


def _leave(number: int, frame: FrameType | None) -> None:
    """Told to end while loading: there is nothing to finish."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
