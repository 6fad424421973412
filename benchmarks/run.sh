#!/bin/sh
# Runs a preset and appends its JSON lines to benchmarks/results/<preset>.jsonl.
#
#   benchmarks/run.sh stages [--repeats N ...]   picture -> tokens, full size, beside PyTorch where it is installed
#   benchmarks/run.sh rans                       rANS encoder and decoders, one core
#   benchmarks/run.sh plans [REPEATS] [NAME]     entropy networks, synthesis and encoder blocks as native plans, by kind of step
#   benchmarks/run.sh kernels                    matrix kernel, attention and LayerNorm against the core's peak (text)
#   benchmarks/run.sh server [--soak 600 ...]    the server: added latency, throughput, idle connections, soak; --parts chooses
#   benchmarks/run.sh wrk [WRK OPTIONS]          the server under wrk, where that is installed (text)
#   benchmarks/run.sh ablations [STEPS] [DATA]  necks that differ in one thing each (400 steps each), two at a time; prints tables, appends nothing
#
# PYTHON names the Python that has torch (default python3).
set -eu
cd "$(dirname "$0")/.."
preset=${1:-stages}
[ $# -gt 0 ] && shift
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no -- . ':!benchmarks/results' 2>/dev/null)" ] || commit="$commit+changes"
machine=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
results=benchmarks/results/$preset.jsonl
mkdir -p benchmarks/results target/benchmarks

native() {
    [ -f target/native/build.ninja ] || cmake -S. -Btarget/native -GNinja -DCMAKE_BUILD_TYPE=Release >/dev/null
    cmake --build target/native --target "$1" >/dev/null
}

case $preset in
stages)
    model=target/benchmarks/full.safetensors
    [ -f "$model" ] || ./comneck import --seeded full -o "$model"
    python=${PYTHON:-python3}
    if "$python" -c 'import torch' 2>/dev/null; then
        set -- --peer "$python benchmarks/peer/peer.py" "$@"
    else
        echo "run.sh: $python has no torch, so there is no peer; name one that has it with PYTHON=..." >&2
    fi
    exec ./comneck bench --model "$model" --commit "$commit" --output "$results" "$@"
    ;;
rans)
    native rans_bench
    target/native/rans_bench "$@" |
        sed "s/^{/{\"commit\": \"$commit\", \"machine\": \"$machine\", \"time\": \"$(date -u +%FT%TZ)\", /" | tee -a "$results"
    ;;
plans)
    native plan_bench
    target/native/plan_bench "$@" |
        sed "s/^{/{\"commit\": \"$commit\", \"machine\": \"$machine\", \"time\": \"$(date -u +%FT%TZ)\", /" | tee -a "$results"
    ;;
kernels)
    native convolution_bench
    native vision_bench
    target/native/convolution_bench
    target/native/vision_bench
    ;;
server)
    exec ./comneck bench-server --commit "$commit" --output "$results" "$@"
    ;;
wrk)
    exec benchmarks/server/wrk.sh "$@"
    ;;
ablations)
    steps=${1:-400}
    data=${2:-../shared/data}
    out=target/benchmarks/ablations-$steps
    # Steps, not minutes: what else the machine does changes nothing then.
    ablations() {
        ./comneck train --ablations "$1" --set "budget.steps=$steps" --data "$data" --out "$out"
    }
    ablations entry,rate >/dev/null &
    ablations loss,schedule,depth >/dev/null
    wait
    ablations all
    exit
    ;;
*)
    echo "run.sh: no preset '$preset'; there are stages, rans, plans, kernels, server, wrk and ablations" >&2
    exit 64
    ;;
esac
