#!/bin/sh
# Builds for this machine's GPU, runs the kernels' tests on it, then compute-sanitizer on them. One JSON line for each step that ran, in
# benchmarks/results/gpu.jsonl; a step that did not run has no line. Needs nvcc, CMake, Ninja and a GPU; no Java.
#
#   benchmarks/gpu/run.sh [build directory]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/target/gpu}
out=$root/benchmarks/results/gpu.jsonl

command -v nvcc > /dev/null || { echo "run.sh: no nvcc here; nothing was run" >&2; exit 3; }
command -v nvidia-smi > /dev/null || { echo "run.sh: no nvidia-smi here, so no driver; nothing was run" >&2; exit 3; }
device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader -i 0) || { echo "run.sh: no GPU answers; nothing was run" >&2; exit 3; }
architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d .)
[ "$architecture" != 90 ] || architecture=90a
commit=$(git -C "$root" rev-parse --short HEAD 2> /dev/null || echo unknown)

cmake -S "$root" -B "$build" -GNinja -DCMAKE_BUILD_TYPE=Release -DCOMNECK_DEVICE_TESTS=ON \
  -DCOMNECK_CUDA_ARCHITECTURES="$architecture"
tests=$(cd "$root" && for test in kernels/*/*_test.cu; do basename "$test" .cu; done)
for test in $tests; do targets="${targets:-} device_$test"; done
# shellcheck disable=SC2086
cmake --build "$build" --target comneck_cuda $targets

# line STEP STATUS SECONDS
line() {
  printf '{"date":"%s","commit":"%s","device":"%s","arch":"sm_%s","step":"%s","exit":%s,"seconds":%s}\n' \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$commit" "$device" "$architecture" "$1" "$2" "$3" | tee -a "$out"
}

failed=0
# step NAME COMMAND...
step() {
  name=$1
  shift
  start=$(date +%s)
  status=0
  "$@" || status=$?
  line "$name" "$status" "$(($(date +%s) - start))"
  [ "$status" = 0 ] || failed=1
}

for test in $tests; do step "$test" "$build/device_$test"; done
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    for test in $tests; do step "$tool $test" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/device_$test"; done
  done
else
  echo "run.sh: no compute-sanitizer here; memcheck and racecheck did not run" >&2
fi
exit $failed
