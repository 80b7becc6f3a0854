/* What the files of the extension share. docs/architecture.md, "The compiled path", says what each of them does. */
#ifndef ARQONBUS_SPEED_H
#define ARQONBUS_SPEED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdbool.h>

#include "plain.h"

/* --- bucket.c --- */

typedef struct {
    PyObject_HEAD
    double rate, burst, level, updated;
} Bucket;

extern PyTypeObject bucket_type;

/* The tokens at `now`; whether there are `amount` of them; and `TokenBucket.take`. */
double bucket_level(const Bucket *bucket, double now);
bool bucket_has(const Bucket *bucket, double amount, double now);
double bucket_take(Bucket *bucket, double amount, double now);

/* --- envelope.c --- */

/* The head of a message: `start`, the quoted `uid`, `rest`. Python's `frames.message_head` made start and rest. */
struct envelope {
    struct span start, uid, rest;
};

/* The size of the present time as text, without a NUL; and that text, as `WireClock.stamp` makes it. */
#define STAMP 24
void put_stamp(char *to);

/* New bytes objects: the head and the tail of a message for the log, a whole message that is in no log, and the ack of one
   with the id `id` (at NULL: null). */
PyObject *bytes_of_head(const struct envelope *envelope);
PyObject *bytes_of_tail(const struct usual *message);
PyObject *bytes_of_passing(const struct envelope *envelope, const struct usual *message, const char *stamp);
PyObject *bytes_of_ack(struct span start, struct span id, struct span rest);

/* --- known.c --- */

/* The classes and functions of the bus that it told us of (NULL before), and the places of their slots (0 before). */
extern struct bus {
    PyObject *writer, *stream, *entry, *answers, *client, *delivery, *batch, *acknowledge, *place_keys, *inbox_room;
    PyObject *session, *traffic, *uids;
    Py_ssize_t writer_pending, writer__direct, writer__send, writer_closed;
    Py_ssize_t stream_head, stream_room, stream_recent, stream_early, stream_growing, stream_pending, stream__scheduled;
    Py_ssize_t entry_channel_id, entry_done, entry_exclude, entry_context, entry_request_id, entry_effect, entry_seq;
    Py_ssize_t entry_frame, entry_duplicate, entry_swallowed, entry_error;
    Py_ssize_t answers_writer, answers_client, answers_node, client_writer, delivery_frame, delivery_exclude;
    Py_ssize_t client_state, client_actor, client_initial, client_client_id, client_noted, client_allowed;
    Py_ssize_t client_rules_version, client_touched, session__frames, session__bytes, session__shared;
    Py_ssize_t traffic_draining, uids__prefix, uids__count;
} bus;

/* Names of attributes and methods, as text of Python's. */
extern struct text {
    PyObject *write, *flush, *_left, *put, *streams, *hub, *_budget, *_schedule, *_scheduled_streams, *_scheduled_writers;
    PyObject *address, *alone, *overloaded, *locked, *version, *acknowledge, *refuse, *received, *received_bytes;
    PyObject *published, *passed;
} text;

/* What is in a slot of an object; whether an object has a class; and the place of a slot, or -1 with an exception. */
#define SLOT(object, place) (*(PyObject **)((char *)(object) + (place)))
#define IS(object, type) PyObject_TypeCheck(object, (PyTypeObject *)(type))
Py_ssize_t slot_of(PyObject *type, const char *name);

/* Call a method with one argument or none (NULL), and forget what it returns. Returns 0, or -1 with an exception. */
int call_method(PyObject *object, PyObject *method, PyObject *argument);

/* --- announce.c --- */

/* Let a frame wait in a writer for the end of the turn: as `Hub.send`. Returns 0, or -1 with an exception. */
int send_later(PyObject *hub, PyObject *writer, PyObject *frame);

/* Let a delivery wait on its stream for the end of the turn: as `Hub.enqueue`. Returns 0, or -1 with an exception. */
int deliver_later(PyObject *hub, PyObject *stream, PyObject *delivery);

/* --- each file adds its types and functions to the module. They return 0, or -1 with an exception set. --- */

int add_bucket(PyObject *module);
int add_inbound(PyObject *module);
int add_lane(PyObject *module);
int add_known(PyObject *module);
int add_fanout(PyObject *module);
int add_announce(PyObject *module);

#endif
