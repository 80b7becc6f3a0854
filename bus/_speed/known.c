/* What fanout.c and announce.c know of the bus: its classes, where their slots are, and a few names of methods.

   A slot of a class is a pointer in each of its objects; the class has a descriptor that says where. */
#include "speed.h"

struct bus bus;
struct text text;

#define GIVEN(name) {#name, offsetof(struct bus, name)}
static const struct { const char *name; size_t at; } given[] = {
    GIVEN(writer), GIVEN(stream), GIVEN(entry), GIVEN(answers), GIVEN(client), GIVEN(delivery), GIVEN(batch),
    GIVEN(session), GIVEN(traffic), GIVEN(uids),
    GIVEN(acknowledge), GIVEN(place_keys), GIVEN(inbox_room),
};

#define PLACE(type, slot) {offsetof(struct bus, type), #slot, offsetof(struct bus, type##_##slot)}
static const struct { size_t type; const char *name; size_t at; } places[] = {
    PLACE(writer, pending), PLACE(writer, _direct), PLACE(writer, _send), PLACE(writer, closed),
    PLACE(stream, head), PLACE(stream, room), PLACE(stream, recent), PLACE(stream, early), PLACE(stream, growing),
    PLACE(stream, pending), PLACE(stream, _scheduled),
    PLACE(entry, channel_id), PLACE(entry, done), PLACE(entry, exclude), PLACE(entry, context), PLACE(entry, request_id),
    PLACE(entry, effect), PLACE(entry, seq), PLACE(entry, frame), PLACE(entry, duplicate), PLACE(entry, swallowed),
    PLACE(entry, error),
    PLACE(answers, writer), PLACE(answers, client), PLACE(answers, node), PLACE(client, writer),
    PLACE(delivery, frame), PLACE(delivery, exclude),
    PLACE(client, state), PLACE(client, actor), PLACE(client, initial), PLACE(client, client_id), PLACE(client, noted),
    PLACE(client, allowed), PLACE(client, rules_version), PLACE(client, touched),
    PLACE(session, _frames), PLACE(session, _bytes), PLACE(session, _shared),
    PLACE(traffic, draining), PLACE(uids, _prefix), PLACE(uids, _count),
};

#define TEXT(name) {#name, offsetof(struct text, name)}
static const struct { const char *is; size_t at; } texts[] = {
    TEXT(write), TEXT(flush), TEXT(_left), TEXT(put), TEXT(streams), TEXT(hub), TEXT(_budget), TEXT(_schedule),
    TEXT(_scheduled_streams), TEXT(_scheduled_writers), TEXT(address), TEXT(alone), TEXT(overloaded), TEXT(locked),
    TEXT(version), TEXT(acknowledge), TEXT(refuse), TEXT(received), TEXT(received_bytes), TEXT(published), TEXT(passed),
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

Py_ssize_t
slot_of(PyObject *type, const char *name)
{
    PyObject *found = PyObject_GetAttrString(type, name);
    if (found == NULL)
        return -1;
    Py_ssize_t place = -1;
    if (Py_IS_TYPE(found, &PyMemberDescr_Type) && ((PyMemberDescrObject *)found)->d_member->type == T_OBJECT_EX)
        place = ((PyMemberDescrObject *)found)->d_member->offset;
    else
        PyErr_Format(PyExc_TypeError, "%s of %R is no slot", name, type);
    Py_DECREF(found);
    return place;
}

int
call_method(PyObject *object, PyObject *method, PyObject *argument)
{
    PyObject *result = argument == NULL ? PyObject_CallMethodNoArgs(object, method)
                                        : PyObject_CallMethodOneArg(object, method, argument);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* know(name=object, …): learn classes and functions of the bus, and where the slots of the classes are. Each is kept for as
   long as the process lives. */
static PyObject *
know(PyObject *module, PyObject *arguments, PyObject *names)
{
    if (PyTuple_GET_SIZE(arguments) || names == NULL) {
        PyErr_SetString(PyExc_TypeError, "know() takes names");
        return NULL;
    }
    for (size_t i = 0; i < COUNT(given); i++) {
        PyObject *object = PyDict_GetItemString(names, given[i].name);
        if (object != NULL)
            Py_XSETREF(SLOT(&bus, given[i].at), Py_NewRef(object));
    }
    for (size_t i = 0; i < COUNT(places); i++) {
        PyObject *type = SLOT(&bus, places[i].type);
        Py_ssize_t place = type == NULL ? 0 : slot_of(type, places[i].name);
        if (place < 0)
            return NULL;
        *(Py_ssize_t *)((char *)&bus + places[i].at) = place;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"know", (PyCFunction)(void (*)(void))know, METH_VARARGS | METH_KEYWORDS, "Learn classes and functions of the bus."},
    {NULL, NULL, 0, NULL},
};

int
add_known(PyObject *module)
{
    for (size_t i = 0; i < COUNT(texts); i++)
        if ((SLOT(&text, texts[i].at) = PyUnicode_InternFromString(texts[i].is)) == NULL)
            return -1;
    return PyModule_AddFunctions(module, functions);
}
