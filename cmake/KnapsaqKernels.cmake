# Kernels are written once and compiled for several instruction sets, of which a processor's best is chosen at run time
# (docs/architecture.md, "Kernels for many processors").

# knapsaq_instruction_set(NAME PROCESSORS regex ROOMS room... [OPTIONS option...] [FEATURES feature...])
# The set of src/knapsaq/base/simd/NAME.h: the processors it is compiled for, the rooms whose kernels find in it what they
# need, the compiler's options, and what a processor must have, as __builtin_cpu_supports() calls it.
function(knapsaq_instruction_set NAME)
  cmake_parse_arguments(SET "" "PROCESSORS" "ROOMS;OPTIONS;FEATURES" ${ARGN})
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "${SET_PROCESSORS}")
    return()
  endif()
  set_property(GLOBAL PROPERTY KNAPSAQ_OPTIONS_${NAME} ${SET_OPTIONS})
  foreach(room IN LISTS SET_ROOMS)
    set_property(GLOBAL APPEND PROPERTY KNAPSAQ_SETS_OF_${room} ${NAME})
  endforeach()
  list(TRANSFORM SET_FEATURES REPLACE "(.+)" "HAS(\\1)")
  list(JOIN SET_FEATURES "" features)
  set_property(GLOBAL APPEND_STRING PROPERTY KNAPSAQ_ALL_SETS "KNAPSAQ_SET(${NAME},${features}) ")
endfunction()

# GCC 12 warns about the deliberately undefined operands inside its own AVX-512 intrinsics (GCC PR 105593).
set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -Wno-uninitialized
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)

set(x86 "^(x86_64|AMD64)$")

# The list, the best first. F16C is in every processor with AVX2; Clang 14 cannot ask for it.
knapsaq_instruction_set(avx512_bf16 PROCESSORS ${x86} ROOMS compute OPTIONS ${avx512} -mavx512bf16 -mavx512vnni -mgfni
                        FEATURES avx512f avx512bw avx512dq avx512vl avx512bf16 avx512vnni gfni)
knapsaq_instruction_set(avx512 PROCESSORS ${x86} ROOMS quant OPTIONS ${avx512}
                        FEATURES avx512f avx512bw avx512dq avx512vl)
knapsaq_instruction_set(avx2 PROCESSORS ${x86} ROOMS compute quant OPTIONS -mavx2 -mfma -mf16c FEATURES avx2 fma)
knapsaq_instruction_set(portable PROCESSORS "." ROOMS compute quant)

# knapsaq_kernels(ROOM file...)
# Compiles these kernel sources once for every set that serves the room, with KNAPSAQ_SET defined as its name (simd.h).
# The room's own sources get KNAPSAQ_SETS: KNAPSAQ_SET(name) for each of them, the best first (tables.h).
function(knapsaq_kernels ROOM)
  get_property(sets GLOBAL PROPERTY KNAPSAQ_SETS_OF_${ROOM})
  foreach(set IN LISTS sets)
    get_property(options GLOBAL PROPERTY KNAPSAQ_OPTIONS_${set})
    add_library(knapsaq_${ROOM}_${set} OBJECT ${ARGN})
    target_compile_features(knapsaq_${ROOM}_${set} PUBLIC cxx_std_20)
    target_include_directories(knapsaq_${ROOM}_${set} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
    target_compile_definitions(knapsaq_${ROOM}_${set} PRIVATE KNAPSAQ_SET=${set})
    target_compile_options(knapsaq_${ROOM}_${set} PRIVATE ${options})
    target_link_libraries(knapsaq_${ROOM}_${set} PRIVATE knapsaq_flags)
    target_sources(knapsaq_${ROOM} PRIVATE $<TARGET_OBJECTS:knapsaq_${ROOM}_${set}>)
  endforeach()
  list(TRANSFORM sets REPLACE "(.+)" "KNAPSAQ_SET(\\1)")
  list(JOIN sets " " sets)
  target_compile_definitions(knapsaq_${ROOM} PRIVATE "KNAPSAQ_SETS=${sets}")
endfunction()
