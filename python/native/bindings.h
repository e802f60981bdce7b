#pragma once

#include <nanobind/nanobind.h>

// The parts of the module knapsaq._native. It is what the package's Python needs and no more: options and
// results as the library has them, and a Job for every verb. What users see, with its documentation, is
// written in Python.

namespace knapsaq::python {

void bind_errors();
void bind_job(nanobind::module_& module);
void bind_options(nanobind::module_& module);
void bind_results(nanobind::module_& module);
void bind_verbs(nanobind::module_& module);
void bind_text_model(nanobind::module_& module);
void bind_arrays(nanobind::module_& module);

}  // namespace knapsaq::python
