/* `usual(data)`: a usual frame as the class Inbound. What the grammar in C leaves, Python's own function reads. */
#include "speed.h"

#include "plain.h"

#include <string.h>

/* Held for the life of the process, each by one reference: the class, Python's function, and texts that frames share. */
static PyObject *inbound, *in_python, *publish, *event;

static PyObject *
text_of(struct span span)
{
    return span.at == NULL ? Py_NewRef(Py_None) : PyUnicode_DecodeUTF8(span.at, (Py_ssize_t)span.size, NULL);
}

static PyObject *
bytes_of(struct span span)
{
    return span.at == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(span.at, (Py_ssize_t)span.size);
}

/* The payload; a message without one stands for it. */
static PyObject *
payload_of(const struct usual *frame)
{
    static const char head[] = "{\"message\":";
    if (frame->payload.at != NULL || frame->message.at == NULL)
        return bytes_of(frame->payload);
    size_t before = sizeof(head) - 1, size = frame->message.size;
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(before + size + 1));
    if (made == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(made);
    memcpy(to, head, before);
    memcpy(to + before, frame->message.at, size);
    to[before + size] = '}';
    return made;
}

/* A new reference: Inbound, or None for a frame that is left to Python. */
static PyObject *
quickly(PyObject *module, PyObject *data)
{
    static const struct usual_limits limits = {PY_SSIZE_T_MAX, DEEPEST};
    struct usual frame;
    if (inbound == NULL || !PyBytes_CheckExact(data) ||
        !read_usual(PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), &limits, &frame))
        Py_RETURN_NONE;
    bool is_event = frame.type.size == 5 && memcmp(frame.type.at, "event", 5) == 0;
    /* The arguments of Inbound in their order. Each is owned by this array, and given back below. */
    PyObject *given[] = {
        Py_NewRef(publish), is_event ? Py_NewRef(event) : text_of(frame.type), text_of(frame.id), text_of(frame.room),
        text_of(frame.channel), PyList_New(0), payload_of(&frame), bytes_of(frame.message), bytes_of(frame.metadata),
        text_of(frame.timestamp), PyBool_FromLong(frame.echo), PyBool_FromLong(frame.ack),
    };
    const size_t count = sizeof(given) / sizeof(given[0]);
    bool whole = true;
    for (size_t i = 0; i < count; i++)
        whole = whole && given[i] != NULL;
    PyObject *made = whole ? PyObject_Vectorcall(inbound, given, count, NULL) : NULL;
    for (size_t i = 0; i < count; i++)
        Py_XDECREF(given[i]);
    return made;
}

static PyObject *
usual(PyObject *module, PyObject *data)
{
    PyObject *made = quickly(module, data);
    if (made != Py_None || in_python == NULL)
        return made;
    Py_DECREF(made);
    return PyObject_CallOneArg(in_python, data);
}

static PyObject *
configure_usual(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3 || !PyCallable_Check(given[0]) || !PyUnicode_Check(given[1]) || !PyCallable_Check(given[2])) {
        PyErr_SetString(PyExc_TypeError, "configure_usual() takes a class, the kind of published messages, and a function");
        return NULL;
    }
    Py_XSETREF(inbound, Py_NewRef(given[0]));
    Py_XSETREF(publish, Py_NewRef(given[1]));
    Py_XSETREF(in_python, Py_NewRef(given[2]));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"usual", usual, METH_O, "The canonical form of a usual frame. None for any other frame, valid or not."},
    {"quickly", quickly, METH_O, "As `usual`, but None for each frame that is left to Python."},
    {"configure_usual", (PyCFunction)(void (*)(void))configure_usual, METH_FASTCALL, "Inbound, its kind, and the function that reads the rest."},
    {NULL, NULL, 0, NULL},
};

int
add_inbound(PyObject *module)
{
    if (event == NULL && (event = PyUnicode_InternFromString("event")) == NULL)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
