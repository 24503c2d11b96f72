# As CTK/CMake/ctkMacroCompilePythonScript.cmake: relative paths keep their folders.
macro(ctkMacroCompilePythonScript)
  cmake_parse_arguments(_ctk
    "NO_INSTALL_SUBDIR;GLOBAL_TARGET"
    "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR"
    "SCRIPTS;RESOURCES"
    ${ARGN}
    )
  foreach(_argument UNPARSED_ARGUMENTS)
    if(_ctk_${_argument})
      message(FATAL_ERROR "ctkMacroCompilePythonScript does not know: ${_ctk_${_argument}}")
    endif()
  endforeach()
  foreach(_argument TARGET_NAME SCRIPTS DESTINATION_DIR INSTALL_DIR)
    if(NOT _ctk_${_argument})
      message(FATAL_ERROR "${_argument} is mandatory")
    endif()
  endforeach()
  if(NOT DEFINED _ctk_SOURCE_DIR)
    set(_ctk_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()
  add_custom_target(Compile${_ctk_TARGET_NAME}PythonFiles)
  foreach(_file ${_ctk_SCRIPTS} ${_ctk_RESOURCES})
    if(IS_ABSOLUTE ${_file})
      message(FATAL_ERROR "${_file}: an absolute path would lose its folder")
    endif()
    if(NOT EXISTS ${_ctk_SOURCE_DIR}/${_file} OR IS_DIRECTORY ${_ctk_SOURCE_DIR}/${_file})
      message(FATAL_ERROR "${_file} is listed and is no file")
    endif()
    if(EXISTS ${_ctk_DESTINATION_DIR}/${_file})
      message(FATAL_ERROR "${_file} is listed twice")
    endif()
    configure_file(${_ctk_SOURCE_DIR}/${_file} ${_ctk_DESTINATION_DIR}/${_file} COPYONLY)
  endforeach()
endmacro()

# As Slicer/CMake/SlicerMacroBuildScriptedModule.cmake.
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(_module
    "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(_module_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know: ${_module_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT _module_NAME)
    message(FATAL_ERROR "NAME is mandatory")
  endif()
  ctkMacroCompilePythonScript(
    TARGET_NAME ${_module_NAME}
    SCRIPTS "${_module_SCRIPTS}"
    RESOURCES "${_module_RESOURCES}"
    DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    NO_INSTALL_SUBDIR
    )
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(_unittest "" "SCRIPT" "" ${ARGN})
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${_unittest_SCRIPT})
    message(FATAL_ERROR "${_unittest_SCRIPT} is tested and is no file")
  endif()
endmacro()
