// on_device PROGRAM ARGUMENTS...: runs a test on the GPU of this machine. Without one it ends with status 77, by which CTest counts it as
// skipped and not as passed.
#include <unistd.h>

#include <cstdio>

#include "comneck_cuda.h"
#include "runtime/device_info.h"

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: on_device PROGRAM ARGUMENTS...\n");
    return 2;
  }
  const comneck::cuda::DeviceInfo info = comneck::cuda::probe(0);
  if (info.cause != COMNECK_CUDA_AVAILABLE) {
    std::printf("skipped, no GPU: %s\n", info.text);
    return 77;
  }
  std::printf("on %s\n", info.text);
  std::fflush(stdout);
  execv(argv[1], argv + 1);
  std::perror(argv[1]);
  return 1;
}
