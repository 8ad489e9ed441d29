#!/usr/bin/env bash
# Make a Docker engine answer, so that the tests that need containers can run.
#
# An engine that already answers is used as it is. Without one, root on Debian or Ubuntu gets docker.io
# installed and a dockerd started that outlives this shell. Safe to call again and from several processes at once.
# Exit: 0 the engine answers; 1 it should have worked and did not; 3 not possible on this machine.
#
# INFEROXY_ENGINE_DIR      pid file, log and lock of the dockerd started here (/var/lib/inferoxy-test-engine)
# INFEROXY_ENGINE_INSTALL  0: install and start nothing, use only an engine that already runs
set -euo pipefail

readonly ENGINE_DIR=${INFEROXY_ENGINE_DIR:-/var/lib/inferoxy-test-engine}
readonly PID_FILE=$ENGINE_DIR/dockerd.pid
readonly LOG_FILE=$ENGINE_DIR/dockerd.log
readonly START_LIMIT_S=60
readonly LOG_TAIL_LINES=40

say() { printf 'engine: [%3d s] %s\n' "$SECONDS" "$*"; }

impossible() {
    printf 'engine: not possible here: %s\n' "$*" >&2
    exit 3
}

# A laptop without coreutils (macOS) has no `timeout`; its Docker is asked without one.
answers() {
    if command -v timeout >/dev/null; then
        timeout 10 docker info >/dev/null 2>&1
    else
        docker info >/dev/null 2>&1
    fi
}

# A zombie has a name still, but no program.
is_alive() { [[ -n $1 && -e /proc/$1/exe ]]; }

# runs_as PID NAME: a number alone proves nothing, pids are used again.
runs_as() { is_alive "$1" && [[ $(cat "/proc/$1/comm" 2>/dev/null) == "$2" ]]; }

drop_stale_pid_file() {
    local file=$1 name=$2
    if [[ -e $file ]] && ! runs_as "$(<"$file")" "$name"; then
        rm -f -- "$file"
    fi
}

# Print the pid of a dockerd that runs, whoever started it.
find_dockerd() {
    local process
    for process in /proc/[0-9]*; do
        if runs_as "${process#/proc/}" dockerd; then
            echo "${process#/proc/}"
            return 0
        fi
    done
    return 1
}

# wait_until_answers PID: until the engine answers, that process has ended, or the time is over.
wait_until_answers() {
    local until=$((SECONDS + START_LIMIT_S))
    while ((SECONDS < until)); do
        if answers; then
            return 0
        fi
        is_alive "$1" || return 1
        sleep 0.2
    done
    return 1
}

install_engine() {
    local -a apt=(apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    say "reading the package lists"
    "${apt[@]}" update >"$ENGINE_DIR/apt.log" 2>&1 \
        || say "some package list could not be read; going on with those that could (see $ENGINE_DIR/apt.log)"
    say "installing docker.io"
    if ! "${apt[@]}" install --no-install-recommends docker.io iptables >>"$ENGINE_DIR/apt.log" 2>&1; then
        tail -n "$LOG_TAIL_LINES" "$ENGINE_DIR/apt.log" >&2
        impossible "docker.io could not be installed (the last lines of apt-get are above)"
    fi
}

# A bridge with a larger MTU than the way out loses big packets silently: downloads in builds would hang.
default_route_mtu() {
    local device
    device=$(awk '$2 == "00000000" { print $1; exit }' /proc/net/route)
    if [[ -n $device ]]; then
        cat "/sys/class/net/$device/mtu"
    else
        echo 1500
    fi
}

start_dockerd() {
    local driver=$1 pid
    say "starting dockerd with the $driver storage driver, log in $LOG_FILE"
    # Its own session, nothing inherited: it outlives the caller's shell, and the lock is not kept open by it.
    setsid dockerd --pidfile "$PID_FILE" --storage-driver "$driver" --mtu "$(default_route_mtu)" \
        </dev/null >"$LOG_FILE" 2>&1 9>&- &
    pid=$!
    if wait_until_answers "$pid"; then
        return 0
    fi
    say "dockerd with $driver ended early or did not answer within $START_LIMIT_S s; the end of its log:"
    tail -n "$LOG_TAIL_LINES" "$LOG_FILE" >&2
    if runs_as "$pid" dockerd; then
        kill -TERM "$pid"
        wait "$pid" || true
    fi
    return 1
}

if answers; then
    say "ready, an engine already answers"
    exit 0
fi
if [[ -n ${DOCKER_HOST:-} ]]; then
    impossible "DOCKER_HOST is set ($DOCKER_HOST) and no engine answers there"
fi
if [[ ${INFEROXY_ENGINE_INSTALL:-1} == 0 ]]; then
    impossible "no engine answers, and INFEROXY_ENGINE_INSTALL=0 forbids starting one"
fi
if ((EUID != 0)); then
    impossible "no engine answers to uid $EUID, and only root can install and start one"
fi
if [[ ! -r /etc/debian_version ]] || ! command -v apt-get >/dev/null; then
    impossible "no engine answers, and one is installed only on Debian and Ubuntu"
fi

mkdir -p "$ENGINE_DIR"
exec 9>"$ENGINE_DIR/lock"
flock --timeout 900 9 || impossible "another ensure_engine.sh has held $ENGINE_DIR/lock for 900 s"

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    install_engine
fi
if pid=$(find_dockerd); then
    say "a dockerd already runs (process $pid), waiting for it"
    if wait_until_answers "$pid"; then
        say "ready"
        exit 0
    fi
    if is_alive "$pid"; then
        tail -n "$LOG_TAIL_LINES" "$LOG_FILE" >&2 || true
        say "dockerd $pid runs and does not answer within $START_LIMIT_S s; it is left alone" >&2
        exit 1
    fi
    say "it has ended"
fi

drop_stale_pid_file "$PID_FILE" dockerd
# dockerd trusts this number, and ends whatever process has it by now.
drop_stale_pid_file /var/run/docker/containerd/containerd.pid containerd

for driver in overlay2 vfs; do
    if start_dockerd "$driver"; then
        say "ready, docker $(docker version --format '{{.Server.Version}}')"
        exit 0
    fi
    if [[ $driver == overlay2 ]]; then
        say "notice: falling back to the vfs storage driver, which is slow and keeps a full copy of every layer"
        drop_stale_pid_file "$PID_FILE" dockerd
    fi
done
say "dockerd could not be started" >&2
exit 1
