/* The part in plain C, without Python.h: it reads what strangers send. A fuzzer runs it alone (tests/speed/fuzz.c).
 *
 * Nothing here allocates memory or keeps anything. Spans point into the caller's text, so they live as long as that text.
 */
#ifndef ARQONBUS_PLAIN_H
#define ARQONBUS_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const char *at; /* NULL: absent, or null */
    size_t size;
};

/* --- websocket.c --- */

/* A whole, masked, final text frame whose length is in its shortest form. */
struct ws_frame {
    const unsigned char *mask; /* four bytes */
    const unsigned char *payload;
    size_t size;  /* of the payload, at most 65,535 */
    size_t total; /* with the header */
};

/* Whether such a frame with a text of at most `largest` bytes begins at `data`. False for any other, and for a part of one. */
bool ws_next(const unsigned char *data, size_t size, size_t largest, struct ws_frame *out);

/* Write the payload without its mask to `out`, which has room for `frame->size` bytes. */
void ws_unmask(const struct ws_frame *frame, char *out);

/* Whether the text is UTF-8 as Python reads it. */
bool utf8_valid(const char *text, size_t size);

/* --- grammar.c --- */

/* What a frame may have. `depth` counts the braces of the frame itself; above DEEPEST a frame is left to Python anyway. */
struct usual_limits {
    size_t bytes;
    unsigned depth;
};
#define DEEPEST 64

/* A usual frame, as `usual()` in bus/protocol/usual.py reads it. Texts come without their quotes, and have no escapes. */
struct usual {
    struct span type; /* never absent; an alias is already replaced */
    struct span id, room, channel;
    struct span payload;  /* JSON. Absent although there is a message: the payload is {"message":<message>}. */
    struct span message;  /* JSON, also where it stands within the payload */
    struct span metadata; /* JSON of an object */
    struct span timestamp; /* a valid time */
    struct span from;      /* JSON. The server ignores it. */
    struct span version;   /* JSON: "1.0" with its quotes; the rules of v1 are then fulfilled */
    bool ack, echo;
    bool plain_id; /* whether the id is [A-Za-z0-9_\-.:@/]{1,128} */
};

/* Whether the text is a usual frame: UTF-8, JSON, within the limits, and by all rules of `usual()`. False leaves it to Python,
 * which alone says what is wrong with it, if anything. `out` is only valid after true. */
bool read_usual(const char *text, size_t size, const struct usual_limits *limits, struct usual *out);

#endif
