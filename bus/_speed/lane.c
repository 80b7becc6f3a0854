/* `Lane`: a connection's usual messages, from the bytes of its socket to the members' queues, without a call for each.

   It decides nothing that Python has not decided: it works with what Python has remembered, in the objects in which Python
   looks itself (the rights that a connection remembers, the known channels, the ids that passed, the token buckets). A `Way`
   is what stays the same for all messages of one sender with one type and address. Python teaches it after it has served such
   a message. A frame that is not served exactly as Python would is left, with nothing touched; Python then serves it. */
#include "speed.h"

#include <string.h>

/* The most ways of a connection. One more makes it forget all of them. While all connections together have MANY, a connection
   may have FEW: a client may make up types, and a way takes some 600 bytes. */
#define WAYS 1024
#define MANY 131072
#define FEW 64
/* The longest key of a way: the type and two addresses, as the sender writes them. */
#define KEY 400
/* A longer text is unmasked into memory of its own. */
#define SHORT 4096
#define UID 132

/* --- what all lanes of a process share ------------------------------------------------------------------------------- */

/* `Road`: the objects of a node. It owns a reference to each. */
typedef struct {
    PyObject_HEAD
    PyObject *traffic, *rules, *channels, *streams, *hub, *broker, *announcer;
    PyObject *passed, *passed_lock, *delivered, *delivered_lock;
    PyObject *registered, *monotonic, *new_uid, *hand_over, *head_start, *ack_start;
    Py_ssize_t remembered;
} Road;

#define ROAD(field) {#field, offsetof(Road, field)}
static const struct { const char *name; size_t at; } road_objects[] = {
    ROAD(traffic), ROAD(rules), ROAD(channels), ROAD(streams), ROAD(hub), ROAD(broker), ROAD(announcer), ROAD(passed),
    ROAD(passed_lock), ROAD(delivered), ROAD(delivered_lock), ROAD(registered), ROAD(monotonic), ROAD(new_uid),
    ROAD(hand_over), ROAD(head_start), ROAD(ack_start),
};
#define OBJECTS (sizeof road_objects / sizeof *road_objects)

static int
road_init(Road *self, PyObject *arguments, PyObject *names)
{
    PyObject *remembered = names == NULL ? NULL : PyDict_GetItemString(names, "remembered");
    if (remembered == NULL || self->traffic != NULL) {
        PyErr_SetString(PyExc_TypeError, "Road() needs each of its objects once, by name");
        return -1;
    }
    for (size_t i = 0; i < OBJECTS; i++) {
        PyObject *given = PyDict_GetItemString(names, road_objects[i].name);
        if (given == NULL) {
            PyErr_Format(PyExc_TypeError, "Road() lacks %s", road_objects[i].name);
            return -1;
        }
        SLOT(self, road_objects[i].at) = Py_NewRef(given);
    }
    if ((self->remembered = PyLong_AsSsize_t(remembered)) == -1 && PyErr_Occurred())
        return -1;
    if (!PyDict_CheckExact(self->channels) || !PyDict_CheckExact(self->streams) || !PyDict_CheckExact(self->passed)
        || !PyDict_CheckExact(self->delivered) || !PyBytes_CheckExact(self->head_start)
        || !PyBytes_CheckExact(self->ack_start) || !bus.traffic || !bus.session || !bus.uids || !bus.client || !bus.stream
        || !bus.entry || !bus.writer || !IS(self->traffic, bus.traffic) || !IS(self->new_uid, bus.uids)) {
        PyErr_SetString(PyExc_TypeError, "Road() got an object of another type");
        return -1;
    }
    return 0;
}

static int
road_traverse(Road *self, visitproc visit, void *arg)
{
    for (size_t i = 0; i < OBJECTS; i++)
        Py_VISIT(SLOT(self, road_objects[i].at));
    return 0;
}

static int
road_clear(Road *self)
{
    for (size_t i = 0; i < OBJECTS; i++)
        Py_CLEAR(SLOT(self, road_objects[i].at));
    return 0;
}

static void
road_dealloc(Road *self)
{
    PyObject_GC_UnTrack(self);
    road_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject road_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bus._speed._core.Road",
    .tp_doc = "What all lanes of a node share.",
    .tp_basicsize = sizeof(Road),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)road_init,
    .tp_traverse = (traverseproc)road_traverse,
    .tp_clear = (inquiry)road_clear,
    .tp_dealloc = (destructor)road_dealloc,
};

/* A way: a tuple of Python's, whose items are these. `learn` checks their types once. */
enum { KIND, REF, CHANNEL_ID, ADDRESS, RIGHT, OWNER, HEAD_REST, ACK_REST, EPHEMERAL, ITEMS };
#define ITEM(way, item) PyTuple_GET_ITEM(way, item)

/* --- the lane of a connection ---------------------------------------------------------------------------------------- */

/* `Lane` owns all its objects. The connection holds the lane and the lane the connection; the collector knows that. */
typedef struct {
    PyObject_HEAD
    Road *road;
    PyObject *client, *session, *connection;
    PyObject *actor, *initial, *client_id; /* the sender that the ways are for */
    PyObject *ways;                        /* a dict of tuples by key; NULL while there are none */
    PyObject *last_key, *last;             /* the way of the last frame */
    Py_ssize_t largest; /* a text, in bytes; the reader sets it */
    struct usual_limits limits;
} Lane;

/* What one call of `take` collects. Lists are made with their first item. It owns them. */
struct taken {
    double now;
    char stamp[STAMP];
    Py_ssize_t frames, bytes, passed;
    bool ephemeral, alone, overloaded, asked;
    PyObject *entries, *notices;
};

/* One frame on its way. The spans of `message` point into `text`, which holds until the frame is served. */
struct frame {
    struct usual message;
    PyObject *way;
    size_t size;
    char uid[UID];
    struct envelope envelope;
};

static struct span
span_of(PyObject *bytes)
{
    return (struct span){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

static int
lane_init(Lane *self, PyObject *arguments, PyObject *names)
{
    static char *known[] = {"road", "client", "session", "connection", "frame_bytes", "depth", NULL};
    PyObject *road, *client, *session, *connection;
    Py_ssize_t frame_bytes, depth;
    if (self->road != NULL) {
        PyErr_SetString(PyExc_TypeError, "a lane begins once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "O!OOOnn:Lane", known, &road_type, &road, &client, &session,
                                     &connection, &frame_bytes, &depth))
        return -1;
    if (((Road *)road)->ack_start == NULL || !IS(client, bus.client) || !IS(session, bus.session)) {
        PyErr_SetString(PyExc_TypeError, "Lane() got an object of another type");
        return -1;
    }
    self->limits.bytes = frame_bytes > 0 ? (size_t)frame_bytes : 0;
    self->limits.depth = depth <= 0 ? 0 : depth > DEEPEST ? DEEPEST : (unsigned)depth;
    self->road = (Road *)Py_NewRef(road);
    self->client = Py_NewRef(client);
    self->session = Py_NewRef(session);
    self->connection = Py_NewRef(connection);
    return 0;
}

/* The ways of all lanes. The interpreter's lock guards it. */
static Py_ssize_t all_ways;

static void
forget(Lane *self)
{
    if (self->ways != NULL)
        all_ways -= PyDict_GET_SIZE(self->ways);
    Py_CLEAR(self->last);
    Py_CLEAR(self->last_key);
    Py_CLEAR(self->ways);
    Py_CLEAR(self->actor);
    Py_CLEAR(self->initial);
    Py_CLEAR(self->client_id);
}

static int
lane_traverse(Lane *self, visitproc visit, void *arg)
{
    Py_VISIT(self->road);
    Py_VISIT(self->client);
    Py_VISIT(self->session);
    Py_VISIT(self->connection);
    Py_VISIT(self->actor);
    Py_VISIT(self->initial);
    Py_VISIT(self->ways);
    Py_VISIT(self->last);
    return 0;
}

static int
lane_clear(Lane *self)
{
    forget(self);
    Py_CLEAR(self->client);
    Py_CLEAR(self->session);
    Py_CLEAR(self->connection);
    Py_CLEAR(self->road);
    return 0;
}

static void
lane_dealloc(Lane *self)
{
    PyObject_GC_UnTrack(self);
    lane_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Whether the client is the one that the ways are for. */
static bool
is_same_sender(const Lane *self)
{
    return SLOT(self->client, bus.client_actor) == self->actor && SLOT(self->client, bus.client_initial) == self->initial
        && SLOT(self->client, bus.client_client_id) == self->client_id;
}

static PyObject *
lane_learn(Lane *self, PyObject *arguments)
{
    PyObject *key, *way;
    if (!PyArg_ParseTuple(arguments, "SO!:learn", &key, &PyTuple_Type, &way))
        return NULL;
    if (PyTuple_GET_SIZE(way) != ITEMS || !PyUnicode_Check(ITEM(way, KIND)) || !PyLong_CheckExact(ITEM(way, CHANNEL_ID))
        || !PyBytes_CheckExact(ITEM(way, HEAD_REST)) || !PyBytes_CheckExact(ITEM(way, ACK_REST))) {
        PyErr_SetString(PyExc_TypeError, "learn() got a way of another form");
        return NULL;
    }
    if (self->road == NULL)
        Py_RETURN_NONE;
    if (self->ways != NULL && (!is_same_sender(self) || PyDict_GET_SIZE(self->ways) >= (all_ways < MANY ? WAYS : FEW)))
        forget(self);
    if (self->ways == NULL) {
        PyObject *actor = SLOT(self->client, bus.client_actor), *initial = SLOT(self->client, bus.client_initial);
        PyObject *client_id = SLOT(self->client, bus.client_client_id);
        if (actor == NULL || initial == NULL || client_id == NULL || !PyUnicode_Check(client_id)
            || !PyUnicode_IS_ASCII(client_id))
            Py_RETURN_NONE;
        self->actor = Py_NewRef(actor);
        self->initial = Py_NewRef(initial);
        self->client_id = Py_NewRef(client_id);
        if ((self->ways = PyDict_New()) == NULL) {
            forget(self);
            return NULL;
        }
    }
    Py_CLEAR(self->last_key); /* It may be the way that this one replaces. */
    Py_CLEAR(self->last);
    all_ways -= PyDict_GET_SIZE(self->ways);
    int failed = PyDict_SetItem(self->ways, key, way);
    all_ways += PyDict_GET_SIZE(self->ways);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* The way of a frame, borrowed; NULL where there is none, or with an exception. */
static PyObject *
way_of(Lane *self, const struct usual *message)
{
    char key[KEY], *to = key;
    size_t size = message->type.size + message->room.size + message->channel.size + 2;
    if (size > sizeof key)
        return NULL;
    const struct span *parts[] = {&message->type, &message->room, &message->channel};
    for (int i = 0; i < 3; i++) {
        if (parts[i]->size)
            memcpy(to, parts[i]->at, parts[i]->size);
        to += parts[i]->size;
        if (i < 2)
            *to++ = '\0';
    }
    PyObject *last = self->last_key;
    if (last != NULL && (size_t)PyBytes_GET_SIZE(last) == size && !memcmp(PyBytes_AS_STRING(last), key, size))
        return self->last;
    PyObject *wanted = PyBytes_FromStringAndSize(key, (Py_ssize_t)size);
    if (wanted == NULL)
        return NULL;
    PyObject *way = PyDict_GetItemWithError(self->ways, wanted);
    if (way != NULL) {
        Py_XSETREF(self->last_key, Py_NewRef(wanted));
        Py_XSETREF(self->last, Py_NewRef(way));
    }
    Py_DECREF(wanted);
    return way;
}

/* --- what Python has remembered -------------------------------------------------------------------------------------- */

/* Whether the connection's next frames may be served here at all: 1, 0, or -1 with an exception. */
static int
is_open(Lane *self)
{
    const Road *road = self->road;
    if (self->ways == NULL || SLOT(self->client, bus.client_state) != road->registered
        || SLOT(road->traffic, bus.traffic_draining) != Py_False)
        return 0;
    if (!is_same_sender(self)) {
        forget(self);
        return 0;
    }
    PyObject *mine = SLOT(self->client, bus.client_rules_version);
    PyObject *version = PyObject_GetAttr(road->rules, text.version);
    if (version == NULL)
        return -1;
    int same = mine == version ? 1 : mine == NULL ? 0 : PyObject_RichCompareBool(mine, version, Py_EQ);
    Py_DECREF(version);
    return same;
}

/* Whether Python knows this channel, and that this client may publish in it. */
static int
is_allowed(Lane *self, PyObject *way)
{
    const Road *road = self->road;
    PyObject *ref = PyDict_GetItemWithError(road->channels, ITEM(way, ADDRESS));
    if (ref != ITEM(way, REF))
        return PyErr_Occurred() ? -1 : 0;
    PyObject *allowed = SLOT(self->client, bus.client_allowed), *noted = SLOT(self->client, bus.client_noted);
    if (allowed == NULL || !PyDict_CheckExact(allowed) || noted == NULL || !PyAnySet_Check(noted))
        return 0;
    if (PyDict_GetItemWithError(allowed, ITEM(way, RIGHT)) != Py_True)
        return PyErr_Occurred() ? -1 : 0;
    return PySet_Contains(noted, ITEM(way, KIND));
}

static Bucket *
bucket_at(PyObject *session, Py_ssize_t place)
{
    PyObject *found = SLOT(session, place);
    return found != NULL && Py_IS_TYPE(found, &bucket_type) ? (Bucket *)found : NULL;
}

/* Take the tokens of one frame from all buckets of the session, or from none of them. */
static bool
take_tokens(Lane *self, size_t size, double now, bool really)
{
    Bucket *frames = bucket_at(self->session, bus.session__frames), *bytes = bucket_at(self->session, bus.session__bytes);
    Bucket *shared = bucket_at(self->session, bus.session__shared);
    if (frames == NULL || bytes == NULL || (shared == NULL && SLOT(self->session, bus.session__shared) != Py_None))
        return false;
    if (!really)
        return bucket_has(frames, 1.0, now) && bucket_has(bytes, (double)size, now)
            && (shared == NULL || bucket_has(shared, 1.0, now));
    bucket_take(frames, 1.0, now);
    bucket_take(bytes, (double)size, now);
    if (shared != NULL)
        bucket_take(shared, 1.0, now);
    return true;
}

/* Whether a key may be admitted to the ids that passed, as one that is new: 1, 0, or -1 with an exception. */
static int
is_new(const Road *road, PyObject *ids, PyObject *lock, PyObject *key)
{
    if (PyDict_GET_SIZE(ids) >= road->remembered)
        return 0; /* Python forgets the oldest ones first. */
    PyObject *locked = PyObject_CallMethodNoArgs(lock, text.locked);
    if (locked == NULL)
        return -1;
    bool busy = locked != Py_False;
    Py_DECREF(locked);
    if (busy)
        return 0; /* Another thread is in the middle of `admit`. */
    int known = PyDict_Contains(ids, key);
    return known < 0 ? -1 : !known;
}

/* --- serving a frame ------------------------------------------------------------------------------------------------- */

static int
collect(PyObject **list, PyObject *item)
{
    if (*list == NULL && (*list = PyList_New(0)) == NULL)
        return -1;
    return PyList_Append(*list, item);
}

/* The text `sender/id`, as `frames.publish_key` for a channel. Both are ASCII. */
static PyObject *
key_of(PyObject *sender, struct span id)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(sender);
    PyObject *made = PyUnicode_New(size + 1 + (Py_ssize_t)id.size, 127);
    if (made == NULL)
        return NULL;
    char *to = PyUnicode_DATA(made);
    memcpy(to, PyUnicode_DATA(sender), (size_t)size);
    to[size] = '/';
    memcpy(to + size + 1, id.at, id.size);
    return made;
}

/* Set the `arq_…` id of the message: made from the sender's id, or a new one. Returns -1 with an exception. */
static int
name_message(Lane *self, struct frame *frame)
{
    struct span id = frame->message.id;
    size_t size = 0;
    if (id.at != NULL) {
        if (id.size < 4 || memcmp(id.at, "arq_", 4)) {
            memcpy(frame->uid, "arq_", 4);
            size = 4;
        }
        memcpy(frame->uid + size, id.at, id.size);
        size += id.size;
    }
    else {
        /* As `Uids.__call__`: its prefix, and the next number in hexadecimal. */
        PyObject *uids = self->road->new_uid, *prefix = SLOT(uids, bus.uids__prefix);
        PyObject *before = SLOT(uids, bus.uids__count);
        size_t number = before == NULL ? 0 : PyLong_AsSize_t(before) + 1;
        PyObject *after = PyErr_Occurred() ? NULL : PyLong_FromSize_t(number);
        if (after == NULL || prefix == NULL || !PyUnicode_Check(prefix) || !PyUnicode_IS_ASCII(prefix)) {
            Py_XDECREF(after);
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "the ids are made of something else than expected");
            return -1;
        }
        Py_XSETREF(SLOT(uids, bus.uids__count), after);
        size = (size_t)snprintf(frame->uid, UID, "%.*s%zx", UID / 2, (const char *)PyUnicode_DATA(prefix), number);
    }
    frame->envelope = (struct envelope){
        .start = span_of(self->road->head_start), .uid = {frame->uid, size}, .rest = span_of(ITEM(frame->way, HEAD_REST))};
    return 0;
}

/* Put a frame on the stream of its channel, if members of it are in this process. */
static int
deliver(Lane *self, struct frame *frame, PyObject *text)
{
    PyObject *stream = PyDict_GetItemWithError(self->road->streams, ITEM(frame->way, CHANNEL_ID));
    if (stream == NULL || !IS(stream, bus.stream))
        return PyErr_Occurred() ? -1 : 0;
    Py_INCREF(stream);
    PyObject *delivery = PyObject_CallFunctionObjArgs(bus.delivery, text, frame->message.echo ? Py_None : self->client, NULL);
    int failed = delivery == NULL || deliver_later(self->road->hub, stream, delivery) < 0;
    Py_XDECREF(delivery);
    Py_DECREF(stream);
    return failed ? -1 : 0;
}

/* Send the ack of a message that is in no log, unless the connection is closing. */
static int
acknowledge(Lane *self, struct frame *frame)
{
    PyObject *writer = SLOT(self->client, bus.client_writer);
    if (writer == NULL || !IS(writer, bus.writer) || SLOT(writer, bus.writer_closed) != Py_False)
        return 0;
    PyObject *ack = bytes_of_ack(span_of(self->road->ack_start), frame->message.id, span_of(ITEM(frame->way, ACK_REST)));
    Py_INCREF(writer);
    int failed = ack == NULL || send_later(self->road->hub, writer, ack) < 0;
    Py_DECREF(writer);
    Py_XDECREF(ack);
    return failed ? -1 : 0;
}

/* Serve a message of an ephemeral channel. `key` is None for one without an id. */
static int
pass_by(Lane *self, struct frame *frame, struct taken *taken, PyObject *key)
{
    const Road *road = self->road;
    PyObject *channel = ITEM(frame->way, CHANNEL_ID);
    if (key != Py_None && (PyDict_SetItem(road->passed, key, channel) < 0 || PyDict_SetItem(road->delivered, key, channel) < 0))
        return -1;
    PyObject *text = bytes_of_passing(&frame->envelope, &frame->message, taken->stamp);
    if (text == NULL)
        return -1;
    taken->passed++;
    int failed = deliver(self, frame, text) < 0 || (frame->message.ack && acknowledge(self, frame) < 0);
    if (!failed && !taken->alone) {
        PyObject *notice = PyTuple_Pack(3, channel, text, key);
        failed = notice == NULL || collect(&taken->notices, notice) < 0;
        Py_XDECREF(notice);
    }
    Py_DECREF(text);
    return failed ? -1 : 0;
}

/* Make the entry of a message for the log: the arguments of `bus.publishing.entry.entries`, in their order. */
static int
enter(Lane *self, struct frame *frame, struct taken *taken, PyObject *key)
{
    PyObject *way = frame->way;
    struct span id = frame->message.id;
    PyObject *exclude = frame->message.echo ? Py_None : self->client, *entry = NULL;
    PyObject *head = bytes_of_head(&frame->envelope), *tail = bytes_of_tail(&frame->message);
    PyObject *uid = PyUnicode_FromStringAndSize(frame->uid, (Py_ssize_t)frame->envelope.uid.size);
    PyObject *request_id = id.at == NULL ? Py_NewRef(Py_None) : PyUnicode_FromStringAndSize(id.at, (Py_ssize_t)id.size);
    PyObject *done = PyObject_GetAttr(self->connection, frame->message.ack ? text.acknowledge : text.refuse);
    if (head != NULL && tail != NULL && uid != NULL && request_id != NULL && done != NULL)
        entry = PyObject_CallFunctionObjArgs(bus.entry, ITEM(way, CHANNEL_ID), head, tail, uid, ITEM(way, KIND), self->client_id, key,
                                             done, exclude, ITEM(way, REF), request_id, ITEM(way, OWNER), NULL);
    int failed = entry == NULL || collect(&taken->entries, entry) < 0;
    Py_XDECREF(head);
    Py_XDECREF(tail);
    Py_XDECREF(uid);
    Py_XDECREF(request_id);
    Py_XDECREF(done);
    Py_XDECREF(entry);
    return failed ? -1 : 0;
}

/* Ask once in a call whether ephemeral messages pass, and whether other processes hear of them. */
static int
ask_broker(Lane *self, struct taken *taken)
{
    PyObject *alone = PyObject_GetAttr(self->road->broker, text.alone);
    PyObject *overloaded = alone == NULL ? NULL : PyObject_GetAttr(self->road->broker, text.overloaded);
    if (overloaded != NULL) {
        taken->alone = alone == Py_True;
        taken->overloaded = overloaded != Py_False;
        taken->asked = true;
    }
    Py_XDECREF(alone);
    Py_XDECREF(overloaded);
    return overloaded == NULL ? -1 : 0;
}

/* Whether the frame may be served here: 1, 0, or -1 with an exception. Touches nothing. */
static int
may_serve(Lane *self, struct frame *frame, struct taken *taken, PyObject *key)
{
    const Road *road = self->road;
    int yes = is_allowed(self, frame->way);
    if (yes <= 0 || !take_tokens(self, frame->size, taken->now, false))
        return yes < 0 ? -1 : 0;
    if (!taken->ephemeral)
        return 1;
    if (!taken->asked && ask_broker(self, taken) < 0)
        return -1;
    if (taken->overloaded || key == Py_None)
        return !taken->overloaded;
    yes = is_new(road, road->passed, road->passed_lock, key);
    return yes <= 0 ? yes : is_new(road, road->delivered, road->delivered_lock, key);
}

/* Serve one frame: 1, 0 where it is left with nothing touched, or -1 with an exception. */
static int
serve(Lane *self, const char *text, size_t size, struct taken *taken)
{
    struct frame frame = {.size = size};
    if (!read_usual(text, size, &self->limits, &frame.message) || (frame.message.id.at != NULL && !frame.message.plain_id))
        return 0;
    frame.way = way_of(self, &frame.message);
    if (frame.way == NULL)
        return PyErr_Occurred() ? -1 : 0;
    bool ephemeral = ITEM(frame.way, EPHEMERAL) == Py_True;
    if (taken->frames && taken->ephemeral != ephemeral)
        return 0; /* What was taken is handed over first, so that answers keep their order. */
    taken->ephemeral = ephemeral;
    Py_INCREF(frame.way); /* Python may run from here on. */
    PyObject *key = frame.message.id.at == NULL ? Py_NewRef(Py_None) : key_of(self->client_id, frame.message.id);
    int done = key == NULL ? -1 : may_serve(self, &frame, taken, key);
    if (done > 0) {
        take_tokens(self, size, taken->now, true);
        taken->frames++;
        taken->bytes += (Py_ssize_t)size;
        if (name_message(self, &frame) < 0 || (ephemeral ? pass_by : enter)(self, &frame, taken, key) < 0)
            done = -1;
    }
    Py_XDECREF(key);
    Py_DECREF(frame.way);
    return done;
}

/* Serve the frame at `position`: its end, 0 where it is left, or -1 with an exception. */
static Py_ssize_t
serve_at(Lane *self, const char *data, Py_ssize_t size, Py_ssize_t position, struct taken *taken)
{
    struct ws_frame found;
    if (!ws_next((const unsigned char *)data + position, (size_t)(size - position), (size_t)self->largest, &found))
        return 0;
    char room[SHORT], *text = found.size <= sizeof room ? room : PyMem_Malloc(found.size);
    if (text == NULL)
        return 0;
    ws_unmask(&found, text);
    int done = serve(self, text, found.size, taken);
    if (text != room)
        PyMem_Free(text);
    return done < 0 ? -1 : done ? position + (Py_ssize_t)found.total : 0;
}

/* Add a number to an attribute. */
static int
count(PyObject *object, PyObject *name, Py_ssize_t more)
{
    PyObject *before = PyObject_GetAttr(object, name), *number = PyLong_FromSsize_t(more), *after = NULL;
    if (before != NULL && number != NULL)
        after = PyNumber_Add(before, number);
    int failed = after == NULL || PyObject_SetAttr(object, name, after) < 0;
    Py_XDECREF(before);
    Py_XDECREF(number);
    Py_XDECREF(after);
    return failed ? -1 : 0;
}

/* Count what was taken, and give Python what goes to the log and to other processes (`bus.sockets.lane.hand_over`). */
static int
hand_over(Lane *self, struct taken *taken)
{
    const Road *road = self->road;
    Py_XSETREF(SLOT(self->client, bus.client_touched), Py_NewRef(Py_True));
    if (count(road->traffic, text.received, taken->frames) < 0
        || count(road->traffic, text.received_bytes, taken->bytes) < 0
        || (taken->passed
            && (count(road->announcer, text.published, taken->passed) < 0
                || count(road->announcer, text.passed, taken->passed) < 0)))
        return -1;
    if (taken->entries == NULL && taken->notices == NULL)
        return 0;
    PyObject *none = Py_None;
    PyObject *result = PyObject_CallFunctionObjArgs(road->hand_over, self->connection, taken->entries ? taken->entries : none,
                                                    taken->notices ? taken->notices : none, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Serve the frames from `position` on, as far as they are alike. Returns where the first one begins that is left, or -1. */
static Py_ssize_t
take_alike(Lane *self, const char *data, Py_ssize_t size, Py_ssize_t position)
{
    struct taken taken = {.frames = 0};
    PyObject *now = PyObject_CallNoArgs(self->road->monotonic);
    if (now == NULL)
        return -1;
    taken.now = PyFloat_AsDouble(now);
    Py_DECREF(now);
    put_stamp(taken.stamp);
    Py_ssize_t end = 0;
    while (position < size && (end = serve_at(self, data, size, position, &taken)) > 0)
        position = end;
    if (taken.frames) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace); /* What was served counts, also before a failure. */
        int failed = hand_over(self, &taken);
        if (type != NULL)
            PyErr_Restore(type, value, trace);
        else if (failed)
            end = -1;
    }
    Py_XDECREF(taken.entries);
    Py_XDECREF(taken.notices);
    return end < 0 ? -1 : position;
}

static PyObject *
lane_take(Lane *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "take() needs bytes and a position");
        return NULL;
    }
    Py_ssize_t position = PyLong_AsSsize_t(arguments[1]), size = PyBytes_GET_SIZE(arguments[0]);
    if (position == -1 && PyErr_Occurred())
        return NULL;
    if (position < 0 || position > size) {
        PyErr_SetString(PyExc_ValueError, "the position is outside of the bytes");
        return NULL;
    }
    if (self->road == NULL)
        return Py_NewRef(arguments[1]);
    Py_INCREF(self); /* The connection may end while Python runs, and drop its lane. */
    Py_ssize_t before = -1;
    int open = 1;
    while (position >= 0 && position < size && position != before && (open = is_open(self)) > 0) {
        before = position;
        position = take_alike(self, PyBytes_AS_STRING(arguments[0]), size, position);
    }
    Py_DECREF(self);
    return open < 0 || position < 0 ? NULL : PyLong_FromSsize_t(position);
}

static PyMethodDef lane_methods[] = {
    {"take", (PyCFunction)(void (*)(void))lane_take, METH_FASTCALL, "Serve the usual frames; where the first one begins that is left."},
    {"learn", (PyCFunction)lane_learn, METH_VARARGS, "Learn the way of one type and address, which Python has just served."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef lane_members[] = {
    {"largest", T_PYSSIZET, offsetof(Lane, largest), 0, "The longest text, in bytes, that it takes."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject lane_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bus._speed._core.Lane",
    .tp_doc = "The compiled path of one connection.",
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)lane_init,
    .tp_traverse = (traverseproc)lane_traverse,
    .tp_clear = (inquiry)lane_clear,
    .tp_dealloc = (destructor)lane_dealloc,
    .tp_methods = lane_methods,
    .tp_members = lane_members,
};

int
add_lane(PyObject *module)
{
    return PyModule_AddType(module, &road_type) < 0 ? -1 : PyModule_AddType(module, &lane_type);
}
