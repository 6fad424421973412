#!/bin/sh
# A server on a free port under the load of wrk, where that is installed:
#
#   benchmarks/server/wrk.sh [WRK OPTIONS]      default -t2 -c32 -d10s
#
# wrk waits for an answer before it sends the next request of a connection, so its latencies leave out what a stalled server keeps from being
# sent (coordinated omission); 'comneck bench-server' does not.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v wrk >/dev/null 2>&1; then
    echo "wrk.sh: wrk is not installed; 'benchmarks/run.sh server' needs nothing" >&2
    exit 69
fi
[ $# -gt 0 ] || set -- -t2 -c32 -d10s
folder=$(mktemp -d)
./comneck encode docs/photo.jpg -o "$folder/photo.cnk" >/dev/null
./comneck serve --port 0 --tcp-port -1 >"$folder/out" 2>"$folder/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
tries=0
until grep -q '^try: ' "$folder/out"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 600 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "wrk.sh: the server did not start:" >&2
        cat "$folder/log" >&2
        exit 70
    fi
    sleep 0.1
done
url=$(sed -n 's/^comneck: serving .* at \(http[^,]*\),.*/\1/p' "$folder/out")
wrk "$@" --latency -s benchmarks/server/tokens.lua "$url" -- "$folder/photo.cnk"
