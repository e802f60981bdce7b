# Installs a build into a scratch folder, and builds and runs the examples against it, as a user would; where the
# headers of other libraries that Knapsaq is built with are looked for, there are none that compile.
#   cmake -D BUILD=.. -D SOURCE=.. -D SCRATCH=.. -D GENERATOR=.. -D COMPILER=.. -D FLAGS=.. -P run.cmake

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed (${result}): ${ARGV}\n${output}")
  endif()
endfunction()

set(prefix ${SCRATCH}/prefix)
set(model ${SOURCE}/assets/wiki-llama-6m)
file(REMOVE_RECURSE ${SCRATCH})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${prefix}/bin/knapsaq --help)
run(${prefix}/bin/knapsaq allocate --help)
run(bash -n ${prefix}/share/bash-completion/completions/knapsaq)
file(STRINGS ${prefix}/share/zsh/site-functions/_knapsaq first LIMIT_COUNT 1)
if(NOT first STREQUAL "#compdef knapsaq")
  message(FATAL_ERROR "zsh does not find its completion: ${first}")
endif()

# What is not promised is not installed.
file(GLOB_RECURSE installed RELATIVE ${prefix}/include ${prefix}/include/knapsaq/*)
file(GLOB_RECURSE public RELATIVE ${SOURCE}/include ${SOURCE}/include/knapsaq/*)
if(NOT installed STREQUAL public)
  message(FATAL_ERROR "installed headers are not those of include/: ${installed}")
endif()

# Every public header is whole, and needs nothing but the standard library.
foreach(header IN ITEMS nlohmann/json.hpp nlohmann/json_fwd.hpp fmt/core.h fmt/format.h sqlite3.h dnnl.hpp Highs.h
                        CLI/CLI.hpp pcre2.h utf8proc.h xxhash.h)
  file(WRITE ${SCRATCH}/hidden/${header} "#error \"a public header needs ${header}\"\n")
endforeach()
foreach(header IN LISTS public)
  string(MAKE_C_IDENTIFIER ${header} name)
  file(WRITE ${SCRATCH}/headers/${name}.cpp "#include \"${header}\"\n#include \"${header}\"\n")
endforeach()
file(GLOB headers ${SCRATCH}/headers/*.cpp)
run(${COMPILER} -std=c++20 -fsyntax-only -Wall -Wextra -Werror -I${SCRATCH}/hidden -I${prefix}/include ${headers})

run(${CMAKE_COMMAND} -S ${SOURCE}/examples/cpp -B ${SCRATCH}/build -G ${GENERATOR} -DCMAKE_PREFIX_PATH=${prefix}
    -DCMAKE_CXX_COMPILER=${COMPILER} "-DCMAKE_CXX_FLAGS=${FLAGS} -I${SCRATCH}/hidden" -DCMAKE_BUILD_TYPE=Debug
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)
run(${SCRATCH}/build/fit_model ${model} 4300000 ${SCRATCH}/fitted)
run(${SCRATCH}/build/score_text ${SCRATCH}/fitted ${SOURCE}/assets/wiki-llama-6m-sample.txt)
run(${SCRATCH}/build/add_quantizer ${model} ${SCRATCH}/clipped)
run(${SCRATCH}/build/add_strategy ${model} ${SCRATCH}/searched)
file(REMOVE_RECURSE ${SCRATCH})
