#!/bin/sh
# The official image's command line: `[redis-server] [FILE.conf] [--option value]…`, or any other command.
# Its build of Redis listens everywhere without protected mode; Debian's must be told. The caller's options win.
set -eu

case "${1-}" in
    -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "${1-}" != redis-server ]; then
    exec "$@"
fi
shift
case "${1-}" in
    "" | -*) exec redis-server --protected-mode no --bind 0.0.0.0 "$@" ;;
esac
conf=$1
shift
exec redis-server "$conf" --protected-mode no --bind 0.0.0.0 "$@"
