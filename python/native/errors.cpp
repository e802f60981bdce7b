#include <exception>
#include <string>

#include "bindings.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"

namespace nb = nanobind;

namespace knapsaq::python {
namespace {

/// The package's own exceptions are Python classes (python/knapsaq/_errors.py).
nb::object error_class(const char* name) { return nb::module_::import_("knapsaq._errors").attr(name); }

// what() may quote bytes of files that are no UTF-8.
nb::object text_of(const std::exception& error) {
  const std::string what = error.what();
  return nb::steal(PyUnicode_DecodeUTF8(what.data(), static_cast<Py_ssize_t>(what.size()), "replace"));
}

void raise(const char* name, const std::exception& error) {
  const nb::object type = error_class(name);
  PyErr_SetObject(type.ptr(), type(text_of(error)).ptr());
}

void translate(const std::exception_ptr& pointer, void* /*payload*/) {
  try {
    std::rethrow_exception(pointer);
  } catch (const InfeasibleError& error) {
    const nb::object type = error_class("InfeasibleError");
    PyErr_SetObject(type.ptr(), type(text_of(error), error.smallest()).ptr());
  } catch (const NotFiniteError& error) {
    raise("NotFiniteError", error);
  } catch (const InputError& error) {
    raise("InputError", error);
  } catch (const UsageError& error) {
    raise("UsageError", error);
  } catch (const IoError& error) {
    raise("IoError", error);
  } catch (const Cancelled& error) {
    raise("Cancelled", error);
  } catch (const Error& error) {
    raise("Error", error);
  }
}

}  // namespace

void bind_errors() { nb::register_exception_translator(translate); }

}  // namespace knapsaq::python
