/* What follows a commit: the messages go onto their streams, and their senders get acks.

   bus/publishing/announce.py, bus/realtime/hub.py and bus/sockets/answers.py define it, and the state stays in their objects.
   An entry that is not usual gets a call of Python's function instead, in its place. */
#include "speed.h"

/* --- committed messages ---------------------------------------------------------------------------------------------- */

/* A number in a slot; false, without an exception, where there is none that fits. */
static bool
read_number(PyObject *object, Py_ssize_t place, Py_ssize_t *number)
{
    PyObject *found = SLOT(object, place);
    if (found == NULL || !PyLong_CheckExact(found))
        return false;
    *number = PyLong_AsSsize_t(found);
    if (*number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* Whether the log has the message of an entry for the first time, and the entry does nothing else. */
static bool
is_plain(PyObject *entry)
{
    return SLOT(entry, bus.entry_effect) == Py_None && SLOT(entry, bus.entry_error) == Py_None
        && SLOT(entry, bus.entry_duplicate) == Py_False;
}

/* Where committed messages go. It owns what it has. */
struct road {
    PyObject *hub, *streams, *budget, *scheduled;
    bool asked; /* whether the hub was asked to flush at the end of the turn */
};

static int
road_begin(struct road *road, PyObject *hub)
{
    *road = (struct road){.hub = Py_NewRef(hub), .streams = PyObject_GetAttr(hub, text.streams)};
    road->budget = PyObject_GetAttr(hub, text._budget);
    road->scheduled = PyObject_GetAttr(hub, text._scheduled_streams);
    if (road->streams == NULL || road->budget == NULL || road->scheduled == NULL)
        return -1;
    if (PyDict_CheckExact(road->streams) && PyList_CheckExact(road->scheduled))
        return 0;
    PyErr_SetString(PyExc_TypeError, "the hub has other streams than expected");
    return -1;
}

static void
road_end(struct road *road)
{
    Py_DECREF(road->hub);
    Py_XDECREF(road->streams);
    Py_XDECREF(road->budget);
    Py_XDECREF(road->scheduled);
}

/* Put a message on its stream: as `Hub.put`. 1, 0 where it is left with nothing touched, or -1 with an exception. */
static int
put_one(struct road *road, PyObject *entry)
{
    PyObject *frame = SLOT(entry, bus.entry_frame), *channel = SLOT(entry, bus.entry_channel_id), *stream;
    Py_ssize_t seq, head;
    if (!is_plain(entry) || channel == NULL || !read_number(entry, bus.entry_seq, &seq) || frame == NULL
        || !PyBytes_CheckExact(frame) || !PyBytes_GET_SIZE(frame))
        return 0;
    stream = PyDict_GetItemWithError(road->streams, channel);
    if (stream == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (!IS(stream, bus.stream) || !read_number(stream, bus.stream_head, &head) || head < 0 || seq != head + 1
        || SLOT(stream, bus.stream_growing) != Py_None)
        return 0;
    PyObject *early = SLOT(stream, bus.stream_early), *pending = SLOT(stream, bus.stream_pending);
    PyObject *recent = SLOT(stream, bus.stream_recent), *room = SLOT(stream, bus.stream_room);
    if (early == NULL || !PyDict_CheckExact(early) || PyDict_GET_SIZE(early) || pending == NULL || !PyList_CheckExact(pending)
        || recent == NULL || recent == Py_None || room == NULL)
        return 0;
    int inbox = PyObject_RichCompareBool(room, bus.inbox_room, Py_EQ);
    if (inbox)
        return inbox < 0 ? -1 : 0;
    /* Python may run from here on: also the collector's callbacks, in any call that makes an object. */
    Py_INCREF(stream);
    Py_INCREF(pending);
    Py_INCREF(recent);
    PyObject *kept = NULL, *delivery = PyObject_CallFunctionObjArgs(bus.delivery, frame, SLOT(entry, bus.entry_exclude), NULL);
    int done = delivery == NULL ? -1 : 1;
    if (done > 0) {
        Py_XSETREF(SLOT(stream, bus.stream_head), Py_NewRef(SLOT(entry, bus.entry_seq)));
        kept = PyObject_CallMethodObjArgs(road->budget, text.put, recent, SLOT(stream, bus.stream_head), frame, NULL);
        done = kept == NULL || PyList_Append(pending, delivery) < 0 ? -1 : 1;
    }
    if (done > 0 && SLOT(stream, bus.stream__scheduled) != Py_True) {
        Py_XSETREF(SLOT(stream, bus.stream__scheduled), Py_NewRef(Py_True));
        if (PyList_Append(road->scheduled, stream) < 0 || (!road->asked && call_method(road->hub, text._schedule, NULL) < 0))
            done = -1;
        road->asked = true;
    }
    Py_XDECREF(kept);
    Py_XDECREF(delivery);
    Py_DECREF(recent);
    Py_DECREF(pending);
    Py_DECREF(stream);
    return done;
}

/* put_all(hub, entries, other): put the usual messages on their streams, and call `other` with each other entry, in their
   order. Returns the number of the usual ones. */
static PyObject *
put_all(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyList_CheckExact(arguments[1]) || !bus.stream_head || !bus.entry_done) {
        PyErr_SetString(PyExc_TypeError, "put_all() needs a hub, a list of entries and a function");
        return NULL;
    }
    struct road road;
    PyObject *entries = arguments[1];
    Py_ssize_t usual = 0;
    int done = road_begin(&road, arguments[0]);
    for (Py_ssize_t i = 0; done >= 0 && i < PyList_GET_SIZE(entries); i++) {
        PyObject *entry = Py_NewRef(PyList_GET_ITEM(entries, i));
        done = IS(entry, bus.entry) ? put_one(&road, entry) : 0;
        usual += done > 0;
        if (done == 0) {
            PyObject *result = PyObject_CallOneArg(arguments[2], entry);
            done = result == NULL ? -1 : 0;
            Py_XDECREF(result);
        }
        Py_DECREF(entry);
    }
    road_end(&road);
    return done < 0 ? NULL : PyLong_FromSsize_t(usual);
}

/* --- acks ------------------------------------------------------------------------------------------------------------ */

/* The ack of a committed message, without anything that is not usual: as `frames.ack`. NULL without an exception: left. */
static PyObject *
ack_of(PyObject *entry)
{
    PyObject *id = SLOT(entry, bus.entry_request_id);
    const char *name = "null", *quote = "";
    Py_ssize_t seq;
    if (id != Py_None) {
        if (id == NULL || !PyUnicode_CheckExact(id) || !PyUnicode_IS_COMPACT_ASCII(id))
            return NULL;
        name = PyUnicode_DATA(id);
        quote = "\"";
        for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(id); i++)
            if (name[i] < ' ' || name[i] == '"' || name[i] == '\\' || name[i] == 127)
                return NULL; /* Python escapes it. */
    }
    if (!read_number(entry, bus.entry_seq, &seq))
        return NULL;
    PyObject *address = PyObject_GetAttr(SLOT(entry, bus.entry_context), text.address), *ack = NULL;
    PyObject *keys = address == NULL ? NULL : PyObject_CallOneArg(bus.place_keys, address);
    if (keys != NULL && PyBytes_CheckExact(keys))
        ack = PyBytes_FromFormat("{\"type\":\"ack\",\"request_id\":%s%s%s,\"seq\":%zd,%s}", quote, name, quote, seq,
                                 PyBytes_AS_STRING(keys));
    Py_XDECREF(keys);
    Py_XDECREF(address);
    return ack;
}

/* Let a frame wait in a writer for the end of the turn: as `Hub.send`. */
int
send_later(PyObject *hub, PyObject *writer, PyObject *frame)
{
    PyObject *pending = SLOT(writer, bus.writer_pending);
    if (pending != NULL && PyList_CheckExact(pending)) {
        if (PyList_Append(pending, frame) < 0)
            return -1;
    }
    else {
        PyObject *fresh = PyList_New(1);
        if (fresh == NULL)
            return -1;
        PyList_SET_ITEM(fresh, 0, Py_NewRef(frame));
        Py_XSETREF(SLOT(writer, bus.writer_pending), fresh);
    }
    PyObject *waiting = PyObject_GetAttr(hub, text._scheduled_writers);
    int known = waiting == NULL ? -1 : PyDict_Contains(waiting, writer);
    if (known == 0)
        known = PyDict_SetItem(waiting, writer, Py_None) < 0 || call_method(hub, text._schedule, NULL) < 0 ? -1 : 1;
    Py_XDECREF(waiting);
    return known < 0 ? -1 : 0;
}

int
deliver_later(PyObject *hub, PyObject *stream, PyObject *delivery)
{
    PyObject *pending = SLOT(stream, bus.stream_pending);
    if (pending == NULL || !PyList_CheckExact(pending)) {
        PyErr_SetString(PyExc_TypeError, "a stream's pending frames are no list");
        return -1;
    }
    if (PyList_Append(pending, delivery) < 0 || SLOT(stream, bus.stream__scheduled) == Py_True)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *scheduled = PyObject_GetAttr(hub, text._scheduled_streams);
    int failed = scheduled == NULL || PyList_Append(scheduled, stream) < 0;
    if (!failed)
        Py_XSETREF(SLOT(stream, bus.stream__scheduled), Py_NewRef(Py_True));
    Py_XDECREF(scheduled);
    return failed || call_method(hub, text._schedule, NULL) < 0 ? -1 : 0;
}

/* Acknowledge one entry: as `Answers.acknowledge`. 1, 0 where it is left with nothing touched, or -1 with an exception. */
static int
answer_one(PyObject *entry)
{
    PyObject *done = SLOT(entry, bus.entry_done);
    if (!is_plain(entry) || SLOT(entry, bus.entry_swallowed) != Py_False || done == NULL || !PyMethod_Check(done)
        || PyMethod_GET_FUNCTION(done) != bus.acknowledge)
        return 0;
    PyObject *connection = PyMethod_GET_SELF(done);
    if (!IS(connection, bus.answers))
        return 0;
    PyObject *client = SLOT(connection, bus.answers_client), *node = SLOT(connection, bus.answers_node);
    PyObject *writer = SLOT(connection, bus.answers_writer);
    if (client == NULL || node == NULL || writer == NULL || !IS(writer, bus.writer) || !IS(client, bus.client)
        || SLOT(client, bus.client_writer) != writer || SLOT(writer, bus.writer_closed) != Py_False)
        return 0;
    Py_INCREF(writer); /* Python may run from here on. */
    Py_INCREF(node);
    PyObject *ack = ack_of(entry), *hub = ack == NULL ? NULL : PyObject_GetAttr(node, text.hub);
    int sent = ack == NULL && !PyErr_Occurred() ? 0 : hub == NULL || send_later(hub, writer, ack) < 0 ? -1 : 1;
    Py_DECREF(node);
    Py_DECREF(writer);
    Py_XDECREF(hub);
    Py_XDECREF(ack);
    return sent;
}

/* answer_all(entries, other): acknowledge the usual entries, and call `other` with each other one, in their order. */
static PyObject *
answer_all(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "answer_all() needs a list of entries and a function");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(arguments[0]); i++) {
        PyObject *entry = Py_NewRef(PyList_GET_ITEM(arguments[0], i));
        int done = bus.answers_node && bus.entry_done && IS(entry, bus.entry) ? answer_one(entry) : 0;
        if (done < 0)
            PyErr_WriteUnraisable(entry); /* The other entries get their answers. */
        if (done == 0) {
            PyObject *result = PyObject_CallOneArg(arguments[1], entry);
            if (result == NULL) {
                Py_DECREF(entry);
                return NULL;
            }
            Py_DECREF(result);
        }
        Py_DECREF(entry);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"put_all", (PyCFunction)(void (*)(void))put_all, METH_FASTCALL, "Put committed messages on their streams."},
    {"answer_all", (PyCFunction)(void (*)(void))answer_all, METH_FASTCALL, "Acknowledge committed messages."},
    {NULL, NULL, 0, NULL},
};

int
add_announce(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
