/* The bytes of a message around what its sender wrote: as `frames.message_tail` and `frames.finish_message` make them. */
#include "speed.h"

#include <string.h>
#include <time.h>

/* A part of a text that is being put together. `put` with a NULL place only counts. */
static char *
put(char *to, const char *from, size_t size)
{
    memcpy(to, from, size);
    return to + size;
}

#define PUT(to, text) put(to, text, sizeof text - 1)

static const char PAYLOAD[] = ",\"payload\":", INNER[] = "{\"message\":", MESSAGE[] = ",\"message\":";
static const char METADATA[] = ",\"metadata\":", CLIENT_TIME[] = ",\"client_timestamp\":\"";
static const char TIME[] = ",\"timestamp\":\"";

static size_t
tail_size(const struct usual *message)
{
    size_t size = sizeof PAYLOAD - 1 + 1; /* and the last brace */
    if (message->payload.at != NULL)
        size += message->payload.size;
    else
        size += message->message.at != NULL ? sizeof INNER - 1 + message->message.size + 1 : 2;
    if (message->message.at != NULL)
        size += sizeof MESSAGE - 1 + message->message.size;
    if (message->metadata.at != NULL)
        size += sizeof METADATA - 1 + message->metadata.size;
    if (message->timestamp.at != NULL)
        size += sizeof CLIENT_TIME - 1 + message->timestamp.size + 1;
    return size;
}

static char *
put_tail(char *to, const struct usual *message)
{
    to = PUT(to, PAYLOAD);
    if (message->payload.at != NULL)
        to = put(to, message->payload.at, message->payload.size);
    else if (message->message.at != NULL) {
        to = PUT(to, INNER);
        to = put(to, message->message.at, message->message.size);
        *to++ = '}';
    }
    else
        to = PUT(to, "{}");
    if (message->message.at != NULL) {
        to = PUT(to, MESSAGE);
        to = put(to, message->message.at, message->message.size);
    }
    if (message->metadata.at != NULL) {
        to = PUT(to, METADATA);
        to = put(to, message->metadata.at, message->metadata.size);
    }
    if (message->timestamp.at != NULL) {
        to = PUT(to, CLIENT_TIME);
        to = put(to, message->timestamp.at, message->timestamp.size);
        *to++ = '"';
    }
    *to++ = '}';
    return to;
}

static size_t
head_size(const struct envelope *envelope)
{
    return envelope->start.size + 1 + envelope->uid.size + 1 + envelope->rest.size;
}

static char *
put_head(char *to, const struct envelope *envelope)
{
    to = put(to, envelope->start.at, envelope->start.size);
    *to++ = '"';
    to = put(to, envelope->uid.at, envelope->uid.size);
    *to++ = '"';
    return put(to, envelope->rest.at, envelope->rest.size);
}

PyObject *
bytes_of_head(const struct envelope *envelope)
{
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)head_size(envelope));
    if (made != NULL)
        put_head(PyBytes_AS_STRING(made), envelope);
    return made;
}

PyObject *
bytes_of_tail(const struct usual *message)
{
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)tail_size(message));
    if (made != NULL)
        put_tail(PyBytes_AS_STRING(made), message);
    return made;
}

PyObject *
bytes_of_passing(const struct envelope *envelope, const struct usual *message, const char *stamp)
{
    size_t size = head_size(envelope) + sizeof TIME - 1 + STAMP + 1 + tail_size(message);
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (made == NULL)
        return NULL;
    char *to = put_head(PyBytes_AS_STRING(made), envelope);
    to = PUT(to, TIME);
    to = put(to, stamp, STAMP);
    *to++ = '"';
    put_tail(to, message);
    return made;
}

PyObject *
bytes_of_ack(struct span start, struct span id, struct span rest)
{
    bool null = id.at == NULL;
    size_t size = start.size + (null ? 4 : id.size + 2) + rest.size;
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (made == NULL)
        return NULL;
    char *to = put(PyBytes_AS_STRING(made), start.at, start.size);
    if (null)
        to = PUT(to, "null");
    else {
        *to++ = '"';
        to = put(to, id.at, id.size);
        *to++ = '"';
    }
    put(to, rest.at, rest.size);
    return made;
}

void
put_stamp(char *to)
{
    /* The text of the last second: as WireClock, which formats each second only once. The interpreter's lock guards it. */
    static time_t second = (time_t)-1;
    static char text[sizeof "2000-01-01T00:00:00"];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second) {
        struct tm parts;
        gmtime_r(&now.tv_sec, &parts);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
        second = now.tv_sec;
    }
    to = put(to, text, sizeof text - 1);
    int thousandths = (int)(now.tv_nsec / 1000000);
    *to++ = '.';
    *to++ = (char)('0' + thousandths / 100);
    *to++ = (char)('0' + thousandths / 10 % 10);
    *to++ = (char)('0' + thousandths % 10);
    *to = 'Z';
}
