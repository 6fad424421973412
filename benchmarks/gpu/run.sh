#!/bin/sh
# What takes a GPU, part by part, each well inside ten minutes:
#
#   benchmarks/gpu/run.sh build             kernels, their tests and the benchmark for this machine's GPU
#   benchmarks/gpu/run.sh tests             every kernel's test and whole plans on the device
#   benchmarks/gpu/run.sh memcheck          the same under compute-sanitizer
#   benchmarks/gpu/run.sh racecheck
#   benchmarks/gpu/run.sh java              the backend's Java tests on the device, whole Kodak photos in batches of 1, 3 and 16
#   benchmarks/gpu/run.sh bench             the benchmark, and PyTorch beside it where a Python with torch is found
#   benchmarks/gpu/run.sh stages            `comneck bench` on ELIC with ViT-L/14 in batches of 1, 16 and 64, and `comneck bench kernels`; a command
#                                           for each, so up to ten minutes each
#   benchmarks/gpu/run.sh vendor            cuBLASLt and cuDNN, where the system finds them, against our own kernels: checked, then timed
#   benchmarks/gpu/run.sh                   all of them
#   benchmarks/gpu/run.sh --emulated [part] the same without a GPU, on the emulation, at tiny sizes: shows that this script and its programs
#                                           work. Its lines say "emulated":true and go to target/gpu-emulated.jsonl, never to results/
#   benchmarks/gpu/run.sh pack              on a machine with a JDK: target/gpu-java.tar.xz (a Java runtime of its own, classes and tests),
#                                           which the parts `java` and `stages` take
#
# One JSON line for each step that ran, in benchmarks/results/gpu.jsonl; a step that did not run has no line. Needs a C++ compiler, nvcc
# (looked for in /usr/local/cuda, too) and CMake 3.25; Ninja where there is one, else make.
# COMNECK_SHARED names the folder with data/photos (part java) and reference/peer_timing.py (part bench); ../shared where it is not set.
# COMNECK_COMMIT: what the lines are to say where the sources have come without their history.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
emulated=false
[ "${1:-}" != --emulated ] || { emulated=true; shift; }
parts=${*:-build tests memcheck racecheck java bench stages vendor}
shared=${COMNECK_SHARED:-$root/../shared}
most=590 # seconds of one command
commit=${COMNECK_COMMIT:-$(git -C "$root" rev-parse --short HEAD 2> /dev/null || echo unknown)}
command -v nvcc > /dev/null || PATH=$PATH:/usr/local/cuda/bin
if command -v ninja > /dev/null; then generator=Ninja; else generator="Unix Makefiles"; fi

say() { echo "run.sh: $*" >&2; }

for part in $parts; do
  case $part in
    build | tests | memcheck | racecheck | java | bench | stages | vendor | pack) ;;
    *) say "no part '$part'; there are build, tests, memcheck, racecheck, java, bench, stages, vendor and pack"; exit 2 ;;
  esac
done

if $emulated; then
  build=${COMNECK_GPU_BUILD:-$root/target/gpu-emulated}
  out=$root/target/gpu-emulated.jsonl
  device="emulation on the processor" architecture=emulation prefix=kernel library=libcomneck_cuda_emulated.so bench=emulated_gpu_bench
elif [ "$parts" != pack ]; then
  build=${COMNECK_GPU_BUILD:-$root/target/gpu}
  out=$root/benchmarks/results/gpu.jsonl
  without="run.sh --emulated shows that these programs work; ./mvnw verify compiles them all where nvcc is"
  command -v nvcc > /dev/null || { say "no nvcc here; nothing was run ($without)"; exit 3; }
  command -v nvidia-smi > /dev/null || { say "no nvidia-smi here, so no driver and no GPU; nothing was run ($without)"; exit 3; }
  device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader -i 0) || { say "no GPU answers; nothing was run ($without)"; exit 3; }
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
  # timeout starts programs only; java_run calls it itself.
  if [ "$1" = java_run ]; then "$@" || status=$?; else timeout "$most" "$@" || status=$?; fi
  record "$(printf '"step":"%s","exit":%s,"seconds":%s' "$name" "$status" "$(($(date +%s) - start))")"
  case $status in 0 | 77) ;; *) failed=1 ;; esac # 77: nothing to test here, as CTest has it
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
  targets="comneck ${library%.so} kernel_plan_test vendor_test $bench"
  targets=$(echo "$targets" | sed 's/libcomneck/comneck/')
  for test in $tests; do targets="$targets ${prefix}_$test"; done
  # shellcheck disable=SC2086
  step build cmake --build "$build" --parallel "$(nproc)" --target $targets
  [ "$failed" = 0 ] || exit 1
}

# The classes that the parts java and stages need, and a Java runtime for machines without one. As small as can be, for it may have to travel:
# without the server, without what lies in the sources anyway (the model) and without what part build makes.
part_pack() {
  java_home=$("$root/mvnw" --print-java-home)
  pack=$root/target/gpu-java
  rm -rf "$pack" "$pack.tar.xz"
  mkdir -p "$pack/jars"
  (cd "$root" && ./mvnw -q -B dependency:build-classpath -DincludeScope=test -Dmdep.outputFile="$pack/classpath")
  "$java_home/bin/jlink" --add-modules java.base,java.desktop,java.management,java.naming,java.net.http,jdk.unsupported --strip-debug \
    --no-header-files --no-man-pages --compress zip-0 --output "$pack/java"
  tr ':' '\n' < "$pack/classpath" |
    grep -E '/(junit-jupiter|junit-platform-commons|opentest4j|apiguardian|imageio|common|jackson|picocli|slf4j-api|progressbar|jline)[^/]*\.jar$' |
    while read -r jar; do cp "$jar" "$pack/jars"; done
  rm "$pack/classpath"
  cp -r "$root/target/classes" "$root/target/test-classes" "$pack"
  rm -rf "$pack/classes/$embedded" "$pack/classes/$natives" "$pack/test-classes/$natives"
  tar -C "$pack" -cJf "$pack.tar.xz" .
  rm -rf "$pack"
  say "wrote $pack.tar.xz"
}

embedded=org/comneck/model/comneck-tiny.safetensors
natives=org/comneck/backend/cuda/linux-x86_64

# java_run ARGUMENTS...: on the packed runtime; the library that was built here is the backend cuda.
java_run() {
  run=$root/target/gpu-java
  if [ ! -d "$run" ]; then
    mkdir -p "$run"
    tar -C "$run" -xJf "$root/target/gpu-java.tar.xz"
    cp "$root/src/main/resources/$embedded" "$run/classes/$embedded"
  fi
  mkdir -p "$run/classes/$natives" "$run/test-classes/$natives"
  if $emulated; then cp "$build/$library" "$run/test-classes/$natives/"; else cp "$build/$library" "$run/classes/$natives/"; fi
  set -- -cp "$run/classes:$run/test-classes:$run/jars/*" "$@"
  ! $emulated || set -- "-Dcomneck.cuda.library=$build/$library" "$@"
  timeout "$most" "$run/java/bin/java" --enable-native-access=ALL-UNNAMED -Djava.awt.headless=true -Dcomneck.shared="$shared" "$@"
}

packed() {
  [ -x "$build/$bench" ] || { say "nothing is built in $build: first part build"; exit 1; }
  [ -f "$root/target/gpu-java.tar.xz" ] && return
  say "no target/gpu-java.tar.xz (run.sh pack makes it where there is a JDK); part $1 did not run"
  return 1
}

part_java() {
  packed java || return 0
  if $emulated; then on_device=false; else on_device=true; fi
  step java java_run -Dcomneck.device=$on_device org.comneck.codec.AcrossBackendsTest
}

# What users see: `comneck bench` and `comneck bench kernels`, whose lines say on which device they ran. Stages, the ways to tokens beside each other
# and beside PyTorch's, memory, a process's first tokens; then kernels, on a device of compute capability 9.0 also those for sm_90a. Repetitions are
# as many as fit ten minutes with the peer.
part_stages() {
  packed stages || return 0
  python=${PYTHON:-python3}
  common="--backend cuda --commit $commit --output $out"
  if $emulated; then
    model=tiny stages="--size 64" kernels="--repeats 1 --shape" attention=1,2,17,64 linear=17,64,64 isas="sm_80 sm_90a" first=1
    repeats_of() { echo 1; }
    batches="1 3"
  else
    model=full stages="" kernels="--repeats 200" attention="" linear="" isas=sm_80 first=5
    [ "$architecture" != 90a ] || isas="sm_80 sm_90a"
    repeats_of() { case $1 in 1) echo 200 ;; 16) echo 30 ;; *) echo 12 ;; esac; }
    batches="1 16 64"
    if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
      peer=$root/benchmarks/peer
    else
      say "no Python with torch and CUDA; the peers did not run"
    fi
  fi
  step "import" java_run org.comneck.cli.Main import --seeded $model -o "$build/$model.safetensors"
  for isa in $isas; do
    for batch in $batches; do
      # shellcheck disable=SC2086
      step "stages, batch $batch, $isa" java_run "-Dcomneck.cuda.isa=$isa" org.comneck.cli.Main bench --model "$build/$model.safetensors" \
        --batch "$batch" --repeats "$(repeats_of "$batch")" --first-tokens "$([ "$batch" = 1 ] && echo $first || echo 0)" $stages $common \
        ${peer:+--peer "$python $peer/peer.py"}
    done
    for filter in attention linear; do
      eval "shape=\$$filter"
      # shellcheck disable=SC2086,SC2154
      step "kernels, $filter, $isa" java_run "-Dcomneck.cuda.isa=$isa" org.comneck.cli.Main bench kernels --filter $filter $kernels $shape --json $common \
        ${peer:+--peer "$python $peer/kernels.py"}
    done
  done
}

# Layers by a vendor's libraries and by our own kernels: first what they compute, then how long each takes in the same minutes.
part_vendor() {
  [ -x "$build/vendor_test" ] || { say "nothing is built in $build: first part build"; exit 1; }
  if $emulated; then
    step vendor_test "$build/vendor_test" "$build/$library" "$build/libemulated_cublaslt.so" "$build/libemulated_cudnn.so"
  else
    step vendor_test "$build/vendor_test" "$build/$library"
  fi
  packed vendor || return 0
  flags="--backend cuda --commit $commit --output $out"
  if $emulated; then
    model=tiny
    set -- "-Dcomneck.cublaslt=$build/libemulated_cublaslt.so" "-Dcomneck.cudnn=$build/libemulated_cudnn.so"
    linear="$flags --json --repeats 1 --shape 17,64,64" flags="$flags --size 64 --repeats 1" batches=1
  else
    model=full
    set --
    linear="$flags --json --repeats 200" flags="$flags --repeats 200" batches="1 16 64"
  fi
  step "import" java_run org.comneck.cli.Main import --seeded $model -o "$build/$model.safetensors"
  for libraries in own vendor; do
    # shellcheck disable=SC2086
    step "kernels, $libraries" java_run "$@" org.comneck.cli.Main bench kernels --filter linear --cuda-libraries $libraries $linear
    for batch in $batches; do
      # shellcheck disable=SC2086
      step "stages, $libraries, batch $batch" java_run "$@" org.comneck.cli.Main bench --model "$build/$model.safetensors" --batch "$batch" \
        --cuda-libraries $libraries $flags
    done
  done
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
    stages) part_stages ;;
    vendor) part_vendor ;;
    bench) part_bench ;;
    pack) part_pack ;;
  esac
done
exit $failed
