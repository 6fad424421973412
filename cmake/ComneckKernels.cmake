# The CUDA kernels, twice: for the emulation (always, its tests are CTests) and, where nvcc is installed, for devices.
#
#   kernels/<operation>/*.cu          part of both
#   kernels/runtime/plan_test.cpp     whole plans, both libraries in one program
#   kernels/<operation>/*_test.cu     one CTest each on the emulation, and with COMNECK_DEVICE_TESTS one each on a device
#   kernels/emulation/emulation.cpp   the emulation
#   kernels/runtime/*.cu              the C functions over the kernels: libcomneck_cuda, and libcomneck_cuda_emulated for the tests

option(COMNECK_DEVICE_TESTS "Build the kernels' tests for a device, too; where there is no GPU CTest skips them" ON)
set(COMNECK_CUDA_ARCHITECTURES "80;86;89;90a;100;120" CACHE STRING "What nvcc compiles for; one while developing")

file(GLOB comneck_kernel_tests CONFIGURE_DEPENDS kernels/*/*_test.cu)
file(GLOB comneck_kernels CONFIGURE_DEPENDS kernels/*/*.cu)
file(GLOB comneck_runtime CONFIGURE_DEPENDS kernels/runtime/*.cu)
list(REMOVE_ITEM comneck_kernels ${comneck_kernel_tests} ${comneck_runtime})
set(comneck_gpu_bench kernels/benchmark/gpu_bench.cu)
list(REMOVE_ITEM comneck_kernels ${CMAKE_CURRENT_SOURCE_DIR}/${comneck_gpu_bench})
# What the two libraries share: the processor's side of the entropy coder, and the checks of views.
set(comneck_shared_sources
  src/main/cpp/backend/layout.cpp
  src/main/cpp/backend/status.cpp
  src/main/cpp/backend/view.cpp
  src/main/cpp/entropy/api.cpp
  src/main/cpp/entropy/checksum.cpp
  src/main/cpp/entropy/payload_head.cpp
  src/main/cpp/entropy/rans_decoder.cpp
  src/main/cpp/entropy/rans_lanes_avx2.cpp
  src/main/cpp/entropy/rans_lanes_avx512.cpp
  src/main/cpp/entropy/rans_lanes_portable.cpp
  src/main/cpp/entropy/rans_tables.cpp)

# g++ takes a .cu for nothing it knows: a file that includes it, one for each.
function(comneck_emulated_sources out)
  foreach(source ${ARGN})
    get_filename_component(name ${source} NAME_WE)
    set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/emulated/${name}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${source}\"\n")
    list(APPEND wrappers ${wrapper})
  endforeach()
  set(${out} ${wrappers} PARENT_SCOPE)
endfunction()

# Whole plans on the processor's library and on another one, loaded beside each other; on a device the same program takes libcomneck_cuda.
function(comneck_add_plan_test)
  add_executable(kernel_plan_test kernels/runtime/plan_test.cpp)
  comneck_compile_options(kernel_plan_test)
  target_link_libraries(kernel_plan_test PRIVATE comneck_objects Threads::Threads ${CMAKE_DL_LIBS})
  target_include_directories(kernel_plan_test PRIVATE src/test/cpp)
  add_dependencies(kernel_plan_test comneck comneck_cuda_emulated)
  add_test(NAME kernel_plan_test COMMAND kernel_plan_test $<TARGET_FILE:comneck> $<TARGET_FILE:comneck_cuda_emulated>)
endfunction()

function(comneck_add_emulated_kernels)
  comneck_emulated_sources(sources ${comneck_kernels})
  add_library(comneck_kernels_emulated OBJECT kernels/emulation/emulation.cpp ${sources})
  comneck_compile_options(comneck_kernels_emulated)
  target_include_directories(comneck_kernels_emulated PUBLIC kernels src/main/cpp/include src/main/cpp)
  comneck_emulated_sources(runtime ${comneck_runtime})
  add_library(comneck_cuda_emulated SHARED ${runtime} ${comneck_shared_sources})
  comneck_compile_options(comneck_cuda_emulated)
  target_link_libraries(comneck_cuda_emulated PRIVATE comneck_kernels_emulated)
  comneck_link_library(comneck_cuda_emulated)
  foreach(test ${comneck_kernel_tests})
    get_filename_component(name ${test} NAME_WE)
    comneck_emulated_sources(source ${test})
    add_executable(kernel_${name} ${source})
    comneck_compile_options(kernel_${name})
    target_link_libraries(kernel_${name} PRIVATE comneck_kernels_emulated comneck_objects Threads::Threads)
    target_include_directories(kernel_${name} PRIVATE src/test/cpp)
    add_test(NAME kernel_${name} COMMAND kernel_${name})
  endforeach()
  comneck_add_plan_test()
  # Libraries that do what a vendor's do, on the emulation.
  file(GLOB libraries CONFIGURE_DEPENDS kernels/emulation/vendor/*.cpp)
  foreach(library ${libraries})
    get_filename_component(name ${library} NAME_WE)
    add_library(emulated_${name} SHARED ${library})
    comneck_compile_options(emulated_${name})
    target_include_directories(emulated_${name} PRIVATE kernels src/main/cpp/include src/main/cpp)
    comneck_link_library(emulated_${name})
    list(APPEND vendor_libraries emulated_${name})
  endforeach()
  add_executable(vendor_test kernels/runtime/vendor_test.cpp)
  comneck_compile_options(vendor_test)
  target_link_libraries(vendor_test PRIVATE comneck_objects ${CMAKE_DL_LIBS})
  target_include_directories(vendor_test PRIVATE src/test/cpp)
  add_dependencies(vendor_test comneck_cuda_emulated ${vendor_libraries})
  add_test(NAME vendor_test COMMAND vendor_test $<TARGET_FILE:comneck_cuda_emulated> $<TARGET_FILE:emulated_cublaslt> $<TARGET_FILE:emulated_cudnn>)
  # The benchmark at tiny sizes: that it works.
  comneck_emulated_sources(bench ${CMAKE_CURRENT_SOURCE_DIR}/${comneck_gpu_bench})
  add_executable(emulated_gpu_bench ${bench} ${runtime} ${comneck_shared_sources} src/main/cpp/entropy/rans_encoder.cpp)
  comneck_compile_options(emulated_gpu_bench)
  target_link_libraries(emulated_gpu_bench PRIVATE comneck_kernels_emulated Threads::Threads)
  target_include_directories(emulated_gpu_bench PRIVATE src/test/cpp)
  add_test(NAME emulated_gpu_bench COMMAND emulated_gpu_bench)
endfunction()

# Canonical arithmetic on a device: no contraction but where fmaf says so, no flush to zero, rounded divisions and roots.
function(comneck_device_options target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 -fmad=false -ftz=false -prec-div=true -prec-sqrt=true -Werror=all-warnings
    -Xcompiler=-Wall,-Wextra,-Wshadow,-Werror,-ffp-contract=off>)
  if("90a" IN_LIST COMNECK_CUDA_ARCHITECTURES)
    target_compile_definitions(${target} PRIVATE COMNECK_SM90A)
  endif()
  target_include_directories(${target} PRIVATE kernels src/main/cpp/include src/main/cpp)
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${comneck_architectures}" CUDA_RUNTIME_LIBRARY Static)
endfunction()

# Machine code for each, and the newest also as PTX, which later devices translate.
macro(comneck_find_nvcc)
  set(comneck_architectures "")
  foreach(architecture ${COMNECK_CUDA_ARCHITECTURES})
    list(APPEND comneck_architectures ${architecture}-real)
  endforeach()
  list(GET COMNECK_CUDA_ARCHITECTURES -1 comneck_newest)
  if(NOT comneck_newest MATCHES "a$")
    list(APPEND comneck_architectures ${comneck_newest}-virtual)
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${comneck_architectures})
  set(COMNECK_HAS_NVCC OFF)
  if(NOT COMNECK_SANITIZE)  # a sanitized build takes the emulation only
    include(CheckLanguage)
    check_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    # CMake 3.25 knows no flag for C++20 in this compiler: comneck_device_options gives it.
    set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
    set(COMNECK_HAS_NVCC ON)
    message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION} for ${COMNECK_CUDA_ARCHITECTURES}")
  elseif(NOT COMNECK_SANITIZE)
    message(STATUS "CUDA: no nvcc here, so no libcomneck_cuda; the kernels are built and tested on the emulation only")
  endif()
endmacro()

# What runs on a device, compiled once for the library and the tests.
function(comneck_add_cuda_library)
  add_library(comneck_cuda_kernels OBJECT ${comneck_kernels})
  comneck_device_options(comneck_cuda_kernels)
  add_library(comneck_cuda_runtime OBJECT ${comneck_runtime} ${comneck_shared_sources})
  comneck_device_options(comneck_cuda_runtime)
  comneck_host_options(comneck_cuda_runtime)
  # The library for devices. It needs the driver only: CUDA's runtime is inside.
  add_library(comneck_cuda SHARED $<TARGET_OBJECTS:comneck_cuda_kernels> $<TARGET_OBJECTS:comneck_cuda_runtime>)
  set_target_properties(comneck_cuda PROPERTIES LINKER_LANGUAGE CUDA CUDA_RUNTIME_LIBRARY Static)
  comneck_link_library(comneck_cuda)
endfunction()

# A program of the tests for a device.
function(comneck_add_device_program name)
  add_executable(${name} ${ARGN} $<TARGET_OBJECTS:comneck_cuda_kernels>)
  comneck_device_options(${name})
  comneck_host_options(${name})
  target_include_directories(${name} PRIVATE src/test/cpp)
endfunction()

# Every test also for a device: a CTest that runs where there is a GPU and is counted as skipped elsewhere.
function(comneck_add_device_test name)
  add_test(NAME ${name} COMMAND on_device ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()

function(comneck_add_device_tests)
  comneck_add_device_program(on_device kernels/runtime/on_device.cpp $<TARGET_OBJECTS:comneck_cuda_runtime>)
  comneck_add_device_program(device_gpu_bench ${comneck_gpu_bench} $<TARGET_OBJECTS:comneck_cuda_runtime> src/main/cpp/entropy/rans_encoder.cpp)
  set(tests ${comneck_kernel_tests})
  list(FILTER tests EXCLUDE REGEX "/emulation_test\\.cu$")  # it says nothing about a device
  foreach(test ${tests})
    get_filename_component(name ${test} NAME_WE)
    comneck_add_device_program(device_${name} ${test})
    file(STRINGS ${test} kernels_in_test REGEX "__global__")
    if(NOT kernels_in_test)  # host code only: one pass of nvcc will do
      list(GET comneck_architectures 0 first_architecture)
      set_target_properties(device_${name} PROPERTIES CUDA_ARCHITECTURES ${first_architecture})
    endif()
    target_link_libraries(device_${name} PRIVATE comneck_objects Threads::Threads)
    comneck_add_device_test(device_${name} $<TARGET_FILE:device_${name}>)
  endforeach()
  comneck_add_device_test(device_plan_test $<TARGET_FILE:kernel_plan_test> $<TARGET_FILE:comneck> $<TARGET_FILE:comneck_cuda>)
endfunction()
