# `cmake --install` gives the command with completion for shells, the libraries of the rooms, the public headers (include/),
# and the package `find_package(knapsaq)` with the target knapsaq::knapsaq that brings all rooms.

include(CMakePackageConfigHelpers)
get_property(rooms GLOBAL PROPERTY KNAPSAQ_ROOMS)
add_library(knapsaq_all INTERFACE)
add_library(knapsaq::knapsaq ALIAS knapsaq_all)
set_target_properties(knapsaq_all PROPERTIES EXPORT_NAME knapsaq)
target_link_libraries(knapsaq_all INTERFACE ${rooms})

install(TARGETS ${rooms} knapsaq_jinja knapsaq_all EXPORT knapsaqTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS knapsaq_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# Completion for shells, which the command itself prints.
set(completions ${PROJECT_BINARY_DIR}/completions)
install(CODE "
  file(MAKE_DIRECTORY \"${completions}\")
  foreach(shell IN ITEMS bash zsh)
    execute_process(COMMAND \"$<TARGET_FILE:knapsaq_command>\" completion \${shell}
                    OUTPUT_FILE \"${completions}/knapsaq.\${shell}\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()")
install(FILES ${completions}/knapsaq.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME knapsaq)
install(FILES ${completions}/knapsaq.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _knapsaq)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/knapsaq DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# Its licence asks to go where the engine goes.
install(FILES ${knapsaq_jinja_sources}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/knapsaq RENAME LICENSE.llama.cpp)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/knapsaq)
install(EXPORT knapsaqTargets NAMESPACE knapsaq:: DESTINATION ${config_dir})
# A HiGHS of our own goes along, out of the way of others: the cache that it was built in is not for keeps.
set(private_dir ${CMAKE_INSTALL_LIBDIR}/knapsaq)
cmake_path(IS_PREFIX knapsaq_highs ${HIGHS_LIBRARY} NORMALIZE own_highs)
if(own_highs)
  install(DIRECTORY ${knapsaq_highs}/ DESTINATION ${private_dir})
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/knapsaqConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/knapsaqConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/knapsaqConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/knapsaqConfig.cmake ${PROJECT_BINARY_DIR}/knapsaqConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindHighs.cmake
        DESTINATION ${config_dir})
