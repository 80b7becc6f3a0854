/* What the files of the extension share. docs/architecture.md, "The compiled path", says what each of them does. */
#ifndef ARQONBUS_SPEED_H
#define ARQONBUS_SPEED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdbool.h>

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

/* --- each file adds its types and functions to the module. They return 0, or -1 with an exception set. --- */

int add_bucket(PyObject *module);

#endif
