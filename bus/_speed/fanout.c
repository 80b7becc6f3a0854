/* What the hub writes: the frames of a turn to the members' sockets, and what waits for single connections.

   bus/realtime/hub.py and bus/servers/daphne/writer.py define it, and the state stays in their objects. A writer whose flag
   `_direct` is set is written to through its socket's own `send`. Every other writer gets a call of its Python method, and so
   does every result but a whole write. */
#include "speed.h"

#include <string.h>

/* The most members that a turn may leave out here; with more of them Python looks them up in a set. */
#define LEFT_OUT 16

/* --- frames as bytes for the socket ---------------------------------------------------------------------------------- */

/* A server's text frame: as `frame.text_frame`. */
static char *
put_frame(char *to, PyObject *payload)
{
    size_t size = (size_t)PyBytes_GET_SIZE(payload);
    *to++ = '\x81';
    if (size < 126)
        *to++ = (char)size;
    else {
        int bytes = size < 65536 ? 2 : 8;
        *to++ = bytes == 2 ? 126 : 127;
        while (bytes--)
            *to++ = (char)(size >> 8 * bytes);
    }
    memcpy(to, PyBytes_AS_STRING(payload), size);
    return to + size;
}

/* All frames of a list of payloads in one new bytes object: as `Batch.wire`. */
static PyObject *
wire_of(PyObject *payloads)
{
    Py_ssize_t size = 0, count = PyList_GET_SIZE(payloads);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *payload = PyList_GET_ITEM(payloads, i);
        if (!PyBytes_CheckExact(payload) || PyBytes_GET_SIZE(payload) > PY_SSIZE_T_MAX / 2 - size) {
            PyErr_SetString(PyExc_TypeError, "a frame is bytes, of a bounded size");
            return NULL;
        }
        Py_ssize_t length = PyBytes_GET_SIZE(payload);
        size += length + (length < 126 ? 2 : length < 65536 ? 4 : 10);
    }
    PyObject *wire = PyBytes_FromStringAndSize(NULL, size);
    if (wire == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(wire);
    for (Py_ssize_t i = 0; i < count; i++)
        to = put_frame(to, PyList_GET_ITEM(payloads, i));
    return wire;
}

/* --- one writer ------------------------------------------------------------------------------------------------------ */

/* The frames for several writers. It owns what it has: the list of payloads, their bytes, the arguments of `send`, and the
   `Batch` with which Python's methods are called, made for the first of them. */
struct batch {
    PyObject *payloads, *wire, *arguments, *object;
};

/* Takes over the reference to `payloads`, also where it fails. */
static int
batch_begin(struct batch *batch, PyObject *payloads)
{
    *batch = (struct batch){.payloads = payloads};
    if ((batch->wire = wire_of(payloads)) == NULL)
        return -1;
    batch->arguments = PyTuple_Pack(1, batch->wire);
    return batch->arguments == NULL ? -1 : 0;
}

static void
batch_end(struct batch *batch)
{
    Py_XDECREF(batch->payloads);
    Py_XDECREF(batch->wire);
    Py_XDECREF(batch->arguments);
    Py_XDECREF(batch->object);
}

static PyObject *
batch_object(struct batch *batch)
{
    if (batch->object == NULL)
        batch->object = PyObject_CallFunctionObjArgs(bus.batch, batch->payloads, batch->wire, NULL);
    return batch->object;
}

/* Let Python queue what the socket did not take; `sent` is a number of bytes, and this function takes its reference. */
static int
leave(PyObject *writer, struct batch *batch, PyObject *sent)
{
    PyObject *object = sent == NULL ? NULL : batch_object(batch);
    PyObject *result = object == NULL ? NULL : PyObject_CallMethodObjArgs(writer, text._left, object, sent, NULL);
    Py_XDECREF(sent);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static bool
is_direct(PyObject *writer)
{
    return IS(writer, bus.writer) && SLOT(writer, bus.writer__direct) == Py_True && SLOT(writer, bus.writer__send) != NULL;
}

/* Write to the socket of a writer that may: as `DaphneWriter._around`. The caller owns a reference to the writer. */
static int
write_direct(PyObject *writer, struct batch *batch)
{
    PyObject *send = Py_NewRef(SLOT(writer, bus.writer__send));
    PyObject *sent = PyObject_Call(send, batch->arguments, NULL);
    Py_DECREF(send);
    if (sent == NULL) {
        if (PyErr_ExceptionMatches(PyExc_BlockingIOError) || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
            PyErr_Clear();
            return leave(writer, batch, PyLong_FromLong(0));
        }
        if (!PyErr_ExceptionMatches(PyExc_OSError))
            return -1;
        PyErr_Clear(); /* The client is gone; the server hears of that, and its consumer from the server. */
        return 0;
    }
    Py_ssize_t size = PyLong_AsSsize_t(sent);
    if (size == PyBytes_GET_SIZE(batch->wire)) {
        Py_DECREF(sent);
        return 0;
    }
    if (size == -1 && PyErr_Occurred()) {
        Py_DECREF(sent);
        return -1;
    }
    return leave(writer, batch, sent);
}

static int
write_to(PyObject *writer, struct batch *batch)
{
    Py_INCREF(writer);
    int done;
    if (is_direct(writer) && SLOT(writer, bus.writer_pending) == Py_None)
        done = write_direct(writer, batch);
    else {
        PyObject *object = batch_object(batch);
        done = object == NULL ? -1 : call_method(writer, text.write, object);
    }
    Py_DECREF(writer);
    return done;
}

/* --- the members of a stream ----------------------------------------------------------------------------------------- */

/* Put the frames of the deliveries into `payloads`, and each member that one of them leaves out into `out`, once. `out` owns
   nothing: the deliveries do. Returns the number of these members, LEFT_OUT + 1 for too many, or -1 with an exception. */
static Py_ssize_t
unpack(PyObject *pending, PyObject *payloads, PyObject **out)
{
    Py_ssize_t found = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(payloads); i++) {
        PyObject *delivery = PyList_GET_ITEM(pending, i);
        if (!IS(delivery, bus.delivery)) {
            PyErr_SetString(PyExc_TypeError, "only deliveries wait on a stream");
            return -1;
        }
        PyList_SET_ITEM(payloads, i, Py_NewRef(SLOT(delivery, bus.delivery_frame)));
        PyObject *exclude = SLOT(delivery, bus.delivery_exclude);
        Py_ssize_t known = 0;
        while (known < found && out[known] != exclude)
            known++;
        if (exclude == Py_None || known < found)
            continue;
        if (found == LEFT_OUT)
            return LEFT_OUT + 1;
        out[found++] = exclude;
    }
    return found;
}

/* Write the batch to all members but those in `out`. */
static int
write_members(PyObject *members, struct batch *batch, PyObject **out, Py_ssize_t outs)
{
    PyObject *member, *writer;
    Py_ssize_t place = 0, size = PyDict_GET_SIZE(members);
    while (PyDict_Next(members, &place, &member, &writer)) {
        Py_ssize_t known = 0;
        while (known < outs && out[known] != member)
            known++;
        if (known == outs && write_to(writer, batch) < 0)
            return -1;
        /* As a loop of Python: the lock of the interpreter is free during a system call. */
        if (PyDict_GET_SIZE(members) != size) {
            PyErr_SetString(PyExc_RuntimeError, "the members changed during a fan-out");
            return -1;
        }
    }
    return 0;
}

/* write_all(members, pending): write to the members that no delivery leaves out. Returns the bytes for each of them, and the
   members that the deliveries leave out, or None. Returns None, and nothing is done, where those are too many. */
static PyObject *
write_all(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyDict_CheckExact(arguments[0]) || !PyList_CheckExact(arguments[1]) || !bus.writer__direct) {
        PyErr_SetString(PyExc_TypeError, "write_all() needs a dict of members and a list of deliveries");
        return NULL;
    }
    PyObject *out[LEFT_OUT], *result = NULL, *left = Py_None, *payloads = PyList_New(PyList_GET_SIZE(arguments[1]));
    if (payloads == NULL)
        return NULL;
    struct batch batch = {.payloads = payloads};
    Py_ssize_t outs = unpack(arguments[1], payloads, out);
    if (outs > LEFT_OUT)
        result = Py_NewRef(Py_None);
    else if (outs >= 0 && batch_begin(&batch, payloads) == 0 && write_members(arguments[0], &batch, out, outs) == 0
             && (!outs || (left = PyList_New(outs)) != NULL)) {
        for (Py_ssize_t i = 0; i < outs; i++)
            PyList_SET_ITEM(left, i, Py_NewRef(out[i]));
        result = Py_BuildValue(outs ? "nN" : "nO", PyBytes_GET_SIZE(batch.wire), left);
    }
    batch_end(&batch);
    return result;
}

/* flush_all(writers): write what each writer keeps. The caller's dict is its own, so nobody changes it meanwhile. */
static PyObject *
flush_all(PyObject *module, PyObject *writers)
{
    if (!PyDict_CheckExact(writers) || !bus.writer__direct) {
        PyErr_SetString(PyExc_TypeError, "flush_all() needs a dict of writers");
        return NULL;
    }
    PyObject *writer, *value;
    Py_ssize_t place = 0;
    int done = 0;
    while (done == 0 && PyDict_Next(writers, &place, &writer, &value)) {
        Py_INCREF(writer);
        PyObject *pending = is_direct(writer) ? SLOT(writer, bus.writer_pending) : NULL;
        if (pending != NULL && PyList_CheckExact(pending)) {
            /* The list is the batch's from here on, as in `Writer.flush`. */
            SLOT(writer, bus.writer_pending) = Py_NewRef(Py_None);
            struct batch batch;
            done = batch_begin(&batch, pending) < 0 ? -1 : write_direct(writer, &batch);
            batch_end(&batch);
        }
        else
            done = call_method(writer, text.flush, NULL);
        Py_DECREF(writer);
    }
    if (done < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"write_all", (PyCFunction)(void (*)(void))write_all, METH_FASTCALL, "Write deliveries to the members of a stream."},
    {"flush_all", flush_all, METH_O, "Write what each of the writers keeps."},
    {NULL, NULL, 0, NULL},
};

int
add_fanout(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
