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

/* --- each file adds its types and functions to the module. They return 0, or -1 with an exception set. --- */

int add_bucket(PyObject *module);
int add_lane(PyObject *module);

#endif
