/*
 * What the parts of the load generator share: the scenario, the connections, and the state of the run. There is one of
 * each, and one thread.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "ws.h"

#include "histogram.h"
#include "mark.h"

#include <time.h>

#define MESSAGES (1u << 16) /* messages that can be under way; a power of two */
#define MAX_CHANNELS 20000
#define MAX_GROUPS 8
#define MAX_HELLOS 8
#define MAX_SERVERS 64
#define MAX_FRAME 60000

/* ---- the scenario ---- */

typedef enum { CLOSED_LOOP, RATE, COLLECT, IDLE } Mode;

typedef struct {
    char *text;
    char *expect; /* wait for a frame that holds this before going on; NULL: do not wait */
} Hello;

typedef struct {
    char name[32], *path, *headers, *first, *publish, *alt, *ackmark, *pingmark, *pongtext;
    int count, channels, base, subscriber, hold, carry, altevery, ackall;
    int port; /* of the server's process that the group connects to; 0: the scenario's */
    Hello hello[MAX_HELLOS];
    int hellos;
    size_t hint; /* where the last mark lay in a frame: the next one usually lies there too */
} Group;

typedef struct {
    char host[64], *errmark;
    Mode mode;
    int port, announce, complete_ack, tokens, parallel, frame_size, server_pids[MAX_SERVERS], server_pid_count;
    double rate, warmup, seconds, timeout, stall;
    uint64_t limit, need;
    Group groups[MAX_GROUPS];
    int group_count;
} Settings;

extern Settings settings;

/* Fills `settings` from standard input. */
void read_scenario(void);

/* ---- the connections ---- */

typedef enum { OPENING, UPGRADING, GREETING, READY, CLOSED } State;

typedef struct {
    Group *group;
    int fd, index, channel, publisher; /* `publisher`: its place in `pool.publishers` */
    State state;
    int step, waiting_first;
    Buffer in, out; /* bytes of an incomplete frame; bytes that the socket did not take yet */
    int want_write, dirty;
    char tail[MARK];
    int tail_len;
    uint64_t *fifo; /* times of the requests that wait for an answer, in order */
    unsigned fifo_head, fifo_tail;
    uint64_t operations, marks;
} Conn;

typedef struct {
    Conn *conns;
    int conn_count, opened, ready, failed, opening;
    int *publishers, publisher_count;
    uint32_t members[MAX_CHANNELS];
    int channel_count;
} Pool;

extern Pool pool;

/* Makes `pool` from `settings`; nothing is open yet. */
void build_connections(void);
void open_connection(Conn *c);
/* Closes what is open, and waits a little for the servers' answers. */
void close_connections(void);
void on_readable(Conn *c);
void on_writable(Conn *c);
/* Appends a rendered template to what the connection sends. `flush_dirty` sends it. */
void send_text(Conn *c, const char *text, int channel, const char *mark);
void flush_dirty(void);
/*
 * Appends `text` with its places filled: %i index of the connection in its group, %g channel, %M the mark, %P padding,
 * %L length of mark and padding together, %n number of the operation.
 */
void render(Buffer *b, const char *text, const Conn *c, int channel, const char *mark);

/* ---- the messages ---- */

typedef struct {
    uint64_t sent;
    uint32_t number, remaining;
    int publisher;
} Message;

typedef struct {
    uint64_t sent, delivered, acked, alternate, frames, bytes, duplicates, errors, closed, lost, unknown;
} Counters;

typedef struct {
    Message messages[MESSAGES];
    uint32_t last_number;
    uint64_t next_channel, expected_deliveries, last_progress, pad, first_frame_size, delivered_frame_size;
    int running, recording, outstanding;
    Counters counters;
    Histogram delivery_times, ack_times;
    char sample_error[512], sample_close[128];
} Run;

extern Run run;

/* One message, or every `altevery`-th time the group's other request. `due`: the moment its time runs from. */
void publish(int publisher, uint64_t due);
/* Says the next greetings of a connection, until one waits for its answer. */
void next_hello(Conn *c);
/* The handshake is over. */
void upgraded(Conn *c);
/* A text or binary frame arrived. */
void on_text(Conn *c, char *data, size_t len, uint64_t at);

/* ---- the loop ---- */

/* Registers a connection with the loop, or changes what the loop waits for. */
void watch(Conn *c, int operation);
void open_loop(void);
/* Handles what happened, and waits for it at most so many milliseconds. */
void turn(int timeout_ms);

/* ---- the phases of a run ---- */

/* Opens every connection, and says the greetings. 1 when all are ready. */
int connect_all(void);
/* One message without padding shows the size of the contender's envelope; the rest up to `frame_size` is padding. */
int calibrate(void);
void start_publishing(void);
/* Runs for `length` seconds. A message that never arrives is given up after `stall` seconds, counted, and sent anew. */
void run_for(double length);
/* Says the greetings of the held groups, and waits until every one of them has `need` messages. */
void collect(void);
/*
 * Waits for what is still under way. 1 when all of it came or nothing came for `stall` seconds (what is missing then is
 * lost); 0 when a server that fell behind is still at it after 5 seconds.
 */
int drain(void);

/* ---- small tools ---- */

/* Ends the program: the system refused something, or the scenario is wrong. */
_Noreturn void die(const char *what);
_Noreturn void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Remembers the first error of the run for its report. */
void note_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Nanoseconds of the monotonic clock. */
static inline uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
