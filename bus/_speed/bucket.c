/* `TokenBucket`: the class of bus/protocol/limits.py, which defines it, as a C type. The lane takes from it without a call. */
#include "speed.h"

double
bucket_level(const Bucket *bucket, double now)
{
    double level = bucket->level + (now - bucket->updated) * bucket->rate;
    return level < bucket->burst ? level : bucket->burst;
}

bool
bucket_has(const Bucket *bucket, double amount, double now)
{
    return bucket->rate <= 0 || bucket_level(bucket, now) >= amount;
}

double
bucket_take(Bucket *bucket, double amount, double now)
{
    if (bucket->rate <= 0)
        return 0.0;
    double level = bucket_level(bucket, now);
    bucket->updated = now;
    if (level >= amount) {
        bucket->level = level - amount;
        return 0.0;
    }
    bucket->level = level;
    return (amount - level) / bucket->rate;
}

static int
bucket_init(Bucket *self, PyObject *arguments, PyObject *names)
{
    static char *known[] = {"rate", "burst", "now", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "ddd:TokenBucket", known, &self->rate, &self->burst, &self->updated))
        return -1;
    self->level = self->burst;
    return 0;
}

static PyObject *
bucket_method_take(Bucket *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "take() needs an amount and a time");
        return NULL;
    }
    double amount = PyFloat_AsDouble(arguments[0]);
    if (amount == -1.0 && PyErr_Occurred())
        return NULL;
    double now = PyFloat_AsDouble(arguments[1]);
    if (now == -1.0 && PyErr_Occurred())
        return NULL;
    return PyFloat_FromDouble(bucket_take(self, amount, now));
}

static PyObject *
bucket_method_owe(Bucket *self, PyObject *argument)
{
    double amount = PyFloat_AsDouble(argument);
    if (amount == -1.0 && PyErr_Occurred())
        return NULL;
    if (self->rate > 0)
        self->level -= amount;
    Py_RETURN_NONE;
}

static PyMethodDef bucket_methods[] = {
    {"take", (PyCFunction)(void (*)(void))bucket_method_take, METH_FASTCALL, "Take tokens, or return the seconds until it has them."},
    {"owe", (PyCFunction)bucket_method_owe, METH_O, "Take tokens, even below zero."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef bucket_members[] = {
    {"rate", T_DOUBLE, offsetof(Bucket, rate), 0, NULL},
    {"burst", T_DOUBLE, offsetof(Bucket, burst), 0, NULL},
    {"level", T_DOUBLE, offsetof(Bucket, level), 0, NULL},
    {"updated", T_DOUBLE, offsetof(Bucket, updated), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject bucket_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bus._speed._core.TokenBucket",
    .tp_doc = "A bucket that gets `rate` tokens a second and holds at most `burst`. A rate of 0 means no limit.",
    .tp_basicsize = sizeof(Bucket),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)bucket_init,
    .tp_methods = bucket_methods,
    .tp_members = bucket_members,
};

int
add_bucket(PyObject *module)
{
    return PyModule_AddType(module, &bucket_type);
}
