#!/usr/bin/env bash
# End the dockerd that ensure_engine.sh started, and no other. Its containers end with it; images stay on disk.
# Exit: 0 it has ended, or none was started here; 1 it did not end in time.
set -euo pipefail

readonly ENGINE_DIR=${INFEROXY_ENGINE_DIR:-/var/lib/inferoxy-test-engine}
readonly PID_FILE=$ENGINE_DIR/dockerd.pid
readonly STOP_LIMIT_S=60

if [[ ! -e $PID_FILE ]]; then
    echo "engine: no dockerd was started by ensure_engine.sh ($PID_FILE does not exist)"
    exit 0
fi
pid=$(<"$PID_FILE")

# A zombie has a name still, but no program.
runs() { [[ -n $pid && -e /proc/$pid/exe && $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]]; }

if ! runs; then
    echo "engine: process $pid is not a dockerd any more, removing its pid file"
    rm -f -- "$PID_FILE"
    exit 0
fi
kill -TERM "$pid"
while runs; do
    if ((SECONDS >= STOP_LIMIT_S)); then
        echo "engine: dockerd $pid has not ended within $STOP_LIMIT_S s of SIGTERM" >&2
        exit 1
    fi
    sleep 0.2
done
rm -f -- "$PID_FILE"
echo "engine: dockerd $pid has ended after $SECONDS s"
