#!/bin/sh
# What takes a GPU, part by part, each well inside ten minutes:
#
#   benchmarks/gpu/run.sh build             kernels, their tests and the benchmark for this machine's GPU
#   benchmarks/gpu/run.sh tests             every kernel's test and whole plans on the device
#   benchmarks/gpu/run.sh memcheck          the same under compute-sanitizer
#   benchmarks/gpu/run.sh racecheck
#   benchmarks/gpu/run.sh java              the backend's Java tests on the device, whole Kodak photos in batches of 1, 3 and 16
#   benchmarks/gpu/run.sh bench             the benchmark, and PyTorch beside it where a Python with torch is found
#   benchmarks/gpu/run.sh                   all of them
#   benchmarks/gpu/run.sh --emulated [part] the same without a GPU, on the emulation, at tiny sizes: shows that this script and its programs
#                                           work. Its lines say "emulated":true and go to target/gpu-emulated.jsonl, never to results/
#   benchmarks/gpu/run.sh pack              on a machine with a JDK: target/gpu-java.tar.xz (a Java runtime of its own, classes and tests),
#                                           which part `java` takes where it finds no JDK
#
# One JSON line for each step that ran, in benchmarks/results/gpu.jsonl; a step that did not run has no line. Needs a C++ compiler, nvcc
# (looked for in /usr/local/cuda, too) and CMake 3.25; Ninja where there is one, else make.
# COMNECK_SHARED names the folder with data/photos (part java) and reference/peer_timing.py (part bench); ../shared where it is not set.
# COMNECK_COMMIT: what the lines are to say where the sources have come without their history.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
emulated=false
[ "${1:-}" != --emulated ] || { emulated=true; shift; }
parts=${1:-build tests memcheck racecheck java bench}
shared=${COMNECK_SHARED:-$root/../shared}
most=590 # seconds of one command
commit=${COMNECK_COMMIT:-$(git -C "$root" rev-parse --short HEAD 2> /dev/null || echo unknown)}
command -v nvcc > /dev/null || PATH=$PATH:/usr/local/cuda/bin
if command -v ninja > /dev/null; then generator=Ninja; else generator="Unix Makefiles"; fi

say() { echo "run.sh: $*" >&2; }

if $emulated; then
  build=${COMNECK_GPU_BUILD:-$root/target/gpu-emulated}
  out=$root/target/gpu-emulated.jsonl
  device="emulation on the processor" architecture=emulation prefix=kernel library=libcomneck_cuda_emulated.so bench=emulated_gpu_bench
elif [ "$parts" != pack ]; then
  build=${COMNECK_GPU_BUILD:-$root/target/gpu}
  out=$root/benchmarks/results/gpu.jsonl
  command -v nvcc > /dev/null || { say "no nvcc here; nothing was run"; exit 3; }
  command -v nvidia-smi > /dev/null || { say "no nvidia-smi here, so no driver; nothing was run"; exit 3; }
  device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader -i 0) || { say "no GPU answers; nothing was run"; exit 3; }
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d .)
  [ "$architecture" != 90 ] || architecture=90a
  prefix=device library=libcomneck_cuda.so bench=device_gpu_bench
fi
tests=$(cd "$root" && for test in kernels/*/*_test.cu; do basename "$test" .cu; done)
# The emulation's own test says nothing about a device.
$emulated || tests=$(echo "$tests" | grep -v '^emulation_test$')

# record JSON-MEMBERS...: one line with what every line has
record() {
  printf '{"date":"%s","commit":"%s","device":"%s","arch":"%s","emulated":%s,%s}\n' \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$commit" "$device" "$architecture" "$emulated" "$1" | tee -a "$out"
}

failed=0
# step NAME COMMAND...
step() {
  name=$1
  shift
  start=$(date +%s)
  status=0
  timeout "$most" "$@" || status=$?
  record "$(printf '"step":"%s","exit":%s,"seconds":%s' "$name" "$status" "$(($(date +%s) - start))")"
  [ "$status" = 0 ] || failed=1
}

# all_tests NAME-PREFIX COMMAND-PREFIX...
all_tests() {
  what=$1
  shift
  [ -x "$build/kernel_plan_test" ] || { say "nothing is built in $build: first part build"; exit 1; }
  for test in $tests; do step "$what$test" "$@" "$build/${prefix}_$test"; done
  step "${what}plan_test" "$@" "$build/kernel_plan_test" "$build/libcomneck.so" "$build/$library"
}

sanitize() {
  if $emulated; then
    say "$1 takes a GPU; the emulation has AddressSanitizer and UBSan in ./mvnw verify instead. Skipped"
  elif command -v compute-sanitizer > /dev/null; then
    all_tests "$1 " compute-sanitizer --tool "$1" --error-exitcode 9
  else
    say "no compute-sanitizer here; $1 did not run"
  fi
}

part_build() {
  if $emulated; then
    cmake -S "$root" -B "$build" -G "$generator" -DCMAKE_BUILD_TYPE=Release -DCOMNECK_CUDA_ARCHITECTURES="${COMNECK_CUDA_ARCHITECTURES:-90a}"
  else
    cmake -S "$root" -B "$build" -G "$generator" -DCMAKE_BUILD_TYPE=Release -DCOMNECK_DEVICE_TESTS=ON -DCOMNECK_CUDA_ARCHITECTURES="$architecture"
  fi
  targets="comneck ${library%.so} kernel_plan_test $bench"
  targets=$(echo "$targets" | sed 's/libcomneck/comneck/')
  for test in $tests; do targets="$targets ${prefix}_$test"; done
  # shellcheck disable=SC2086
  step build cmake --build "$build" --parallel "$(nproc)" --target $targets
  [ "$failed" = 0 ] || exit 1
}

# The classes that part java needs, and a Java runtime for machines without one.
part_pack() {
  java_home=$("$root/mvnw" --print-java-home)
  pack=$root/target/gpu-java
  rm -rf "$pack" "$pack.tar.xz"
  mkdir -p "$pack"
  (cd "$root" && ./mvnw -q -B dependency:build-classpath -DincludeScope=test -Dmdep.outputFile="$pack/classpath")
  "$java_home/bin/jlink" --add-modules java.se,jdk.unsupported --strip-debug --no-header-files --no-man-pages --compress zip-0 --output "$pack/java"
  mkdir "$pack/jars"
  tr ':' '\n' < "$pack/classpath" | grep -E '/(junit|opentest4j|apiguardian|imageio|common|jackson)[^/]*\.jar$' | while read -r jar; do cp "$jar" "$pack/jars"; done
  rm "$pack/classpath"
  cp -r "$root/target/classes" "$root/target/test-classes" "$pack"
  tar -C "$pack" -cJf "$pack.tar.xz" .
  rm -rf "$pack"
  say "wrote $pack.tar.xz"
}

part_java() {
  if $emulated; then
    say "the Java tests run on the emulation in ./mvnw verify; part java takes a GPU. Skipped"
    return
  fi
  if [ -f "$root/target/gpu-java.tar.xz" ]; then
    run=$root/target/gpu-java
    rm -rf "$run"
    mkdir -p "$run"
    tar -C "$run" -xJf "$root/target/gpu-java.tar.xz"
    mkdir -p "$run/classes/org/comneck/backend/cuda/linux-x86_64"
    cp "$build/$library" "$run/classes/org/comneck/backend/cuda/linux-x86_64/"
    step "java" "$run/java/bin/java" --enable-native-access=ALL-UNNAMED -Djava.awt.headless=true -Dcomneck.device=true \
      -Dcomneck.shared="$shared" -cp "$run/classes:$run/test-classes:$run/jars/*" org.comneck.codec.AcrossBackendsTest
  else
    say "no target/gpu-java.tar.xz (run.sh pack makes it where there is a JDK); the Java tests did not run"
  fi
}

part_bench() {
  [ -x "$build/$bench" ] || { say "nothing is built in $build: first part build"; exit 1; }
  lines=$build/bench.jsonl
  status=0
  timeout "$most" "$build/$bench" > "$lines" || status=$?
  while read -r line; do
    line=${line#\{}
    record "$(printf '%s' "${line%\}}" | sed 's/"emulated":[a-z]*,//')"
  done < "$lines"
  [ "$status" = 0 ] || { say "the benchmark ended with status $status"; failed=1; }
  python=${PYTHON:-python3}
  if $emulated; then
    say "the peer takes a GPU. Skipped"
  elif [ -f "$shared/reference/peer_timing.py" ] && "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
    for batch in 1 16; do
      timeout "$most" "$python" "$shared/reference/peer_timing.py" --device cuda --batch "$batch" > "$lines" || { say "the peer failed"; failed=1; }
      while read -r line; do
        line=${line#\{}
        record "\"bench\":\"peer\",$(printf '%s' "${line%\}}" | sed 's/"device": *"[a-z]*", *//')"
      done < "$lines"
    done
  else
    say "no Python with torch and CUDA, or no peer_timing.py; the peer did not run"
  fi
}

for part in $parts; do
  case $part in
    build) part_build ;;
    tests) all_tests "" ;;
    memcheck | racecheck) sanitize "$part" ;;
    java) part_java ;;
    bench) part_bench ;;
    pack) part_pack ;;
    *) say "no part '$part'"; exit 2 ;;
  esac
done
exit $failed
