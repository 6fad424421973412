# Compile options, instruction sets by file name, and test targets.

# Canonical arithmetic: no contraction, no reassociation, no flush to zero. Never -ffast-math, never -march=native.
function(comneck_host_options target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Wold-style-cast -Werror
    -ffp-contract=off -fno-math-errno -fno-trapping-math>)
endfunction()

# The runtime of the compiler travels inside, so that the library loads on any glibc of its age or newer.
function(comneck_link_library target)
  target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL)
  if(NOT COMNECK_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,--no-undefined -static-libstdc++ -static-libgcc)
  endif()
endfunction()

function(comneck_compile_options target)
  comneck_host_options(${target})
  if(COMNECK_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
  endif()
endfunction()

# gcc 12 takes the deliberately undefined operand of its own AVX-512 intrinsics for a mistake of ours, hence -Wno-maybe-uninitialized
# and, in sanitized builds, -Wno-uninitialized.
function(comneck_instruction_sets sources)
  foreach(source ${sources})
    if(source MATCHES "_avx512bf16\\.cpp$")
      set(flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mfma -mf16c -Wno-maybe-uninitialized -Wno-uninitialized)
    elseif(source MATCHES "_avx512\\.cpp$")
      set(flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -Wno-maybe-uninitialized -Wno-uninitialized)
    elseif(source MATCHES "_avx2\\.cpp$")
      set(flags -mavx2 -mfma -mf16c)
    else()
      continue()
    endif()
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${flags}")
  endforeach()
endfunction()

function(comneck_add_tests)
  file(GLOB tests CONFIGURE_DEPENDS src/test/cpp/*_test.cpp)
  foreach(test ${tests})
    get_filename_component(name ${test} NAME_WE)
    add_executable(${name} ${test})
    comneck_compile_options(${name})
    target_compile_definitions(${name} PRIVATE COMNECK_FUZZ_SECONDS=${COMNECK_FUZZ_SECONDS})
    target_link_libraries(${name} PRIVATE comneck_objects Threads::Threads)
    target_include_directories(${name} PRIVATE src/test/cpp)
    add_test(NAME ${name} COMMAND ${name})
  endforeach()
  file(GLOB benches CONFIGURE_DEPENDS src/test/cpp/*_bench.cpp)
  foreach(bench ${benches})
    get_filename_component(name ${bench} NAME_WE)
    add_executable(${name} EXCLUDE_FROM_ALL ${bench})
    comneck_compile_options(${name})
    target_link_libraries(${name} PRIVATE comneck_objects Threads::Threads)
    target_include_directories(${name} PRIVATE src/test/cpp)
  endforeach()
endfunction()
