# Slicer writes these into the extension's description; here they are written for the test to read.
set(_described "NAME|${PROJECT_NAME}\n")
foreach(_key HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${_key}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${_key} is not set")
  endif()
  string(APPEND _described "${_key}|${EXTENSION_${_key}}\n")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/described.txt "${_described}")
