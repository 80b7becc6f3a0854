/* What the files of the extension share. docs/architecture.md, "The compiled path", says what each of them does. */
#ifndef ARQONBUS_SPEED_H
#define ARQONBUS_SPEED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

/* Each file adds its types and functions to the module. They return 0, or -1 with an exception set. */

#endif
