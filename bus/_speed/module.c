/* The module `bus._speed._core`: refuses what it does not support, and puts the parts together. */
#include "speed.h"

static int
exec_module(PyObject *module)
{
    /* Objects of Python are kept in static variables, so a second interpreter would share them. */
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "the compiled path works in the main interpreter only");
        return -1;
    }
    if (add_bucket(module) < 0 || add_inbound(module) < 0 || add_lane(module) < 0 || add_known(module) < 0
        || add_fanout(module) < 0 || add_announce(module) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "SOURCES", SOURCES);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#ifdef Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static PyMethodDef methods[] = {
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bus._speed._core",
    .m_doc = "The compiled path of the usual message. The Python code of the bus is its definition.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
