/*
 * A WebSocket load generator that costs little enough not to be what is measured.
 *
 * One thread, epoll, no allocation per frame. It reads a scenario from standard input (the keys are in the table in
 * `read_scenario`), opens every connection, says each group's greetings, publishes in one of the modes below, and
 * prints one JSON object. It knows no contender: greetings, messages and answers are templates and marks.
 *
 *   closed   `tokens` messages are under way at any time; the next leaves when one is complete (`complete delivery`:
 *            every member of its channel has it; `complete ack`: the publisher has its answer)
 *   rate     `rate` messages a second by the clock; a message's time runs from the moment it was due, so that a
 *            server which holds up the generator does not hide its own delay
 *   collect  the greetings of held groups leave all at once; it ends when every connection has `need` messages
 *   idle     connect only, then look at the server for `seconds`
 *
 * Each message carries a mark of 26 characters, "zT", 16 hex digits of nanoseconds and 8 of its number; whoever
 * receives it finds the mark and so knows the delay and the message, whatever envelope the contender puts round it.
 */
#include "ws.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MARK 26
#define MESSAGES (1u << 16) /* messages that can be under way; a power of two */
#define MAX_CHANNELS 20000
#define READ_SIZE (4 << 20)

typedef enum { OPENING, UPGRADING, GREETING, READY, CLOSED } State;

typedef struct {
    char *text;
    char *expect; /* wait for a frame that holds this before going on; NULL: do not wait */
} Hello;

typedef struct {
    char name[32], *path, *headers, *first, *publish, *alt, *ackmark, *pingmark, *pongtext;
    int count, channels, base, subscriber, hold, carry, altevery, ackall;
    Hello hello[8];
    int hellos;
    size_t hint; /* where the last mark lay in a frame: the next one usually lies there too */
} Group;

typedef struct {
    Group *group;
    int fd, index, channel, publisher; /* `publisher`: its place in `publishers` */
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
    uint64_t sent;
    uint32_t number, remaining;
    int publisher;
} Message;

/* Logarithmic histogram: 64 steps per octave, so a percentile is right to 1.6 %. */
#define STEPS 64
typedef struct {
    uint64_t bucket[64 * STEPS], count, max;
} Histogram;

typedef struct {
    uint64_t sent, delivered, acked, alternate, frames, bytes, duplicates, errors, closed, lost, unknown;
} Counters;

static Group groups[8];
static int group_count;
static Conn *conns;
static int conn_count, opened, ready, failed, opening;
static int *publishers, publisher_count;
static uint32_t members[MAX_CHANNELS];
static int channel_count = 1;

static char host[64] = "127.0.0.1", mode[16] = "closed", *errmark;
static int port, complete_ack, tokens = 8, parallel = 64, frame_size, server_pids[16], server_pid_count;
static double rate = 100, warmup = 0.5, seconds = 2, timeout = 60, stall = 2;
static uint64_t limit, need;

static int epoll, timer = -1;
static Message messages[MESSAGES];
static uint32_t next_number = 1;
static uint64_t next_channel, expected_deliveries, last_progress, pad, first_frame_size, delivered_frame_size;
static int running, recording, outstanding, dirty_count, *dirty_list;
static Counters counters;
static Histogram delivery_times, ack_times;
static char *read_buffer, sample_error[512], sample_close[128];
static char pad_text[65536];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- histogram ---- */

static void record(Histogram *h, uint64_t ns) {
    uint64_t v = ns / 16 + STEPS; /* from 16 ns up; below STEPS the steps would be no steps */
    int octave = 63 - __builtin_clzll(v);
    unsigned index = (unsigned)((octave - 6) * STEPS + (int)((v >> (octave - 6)) & (STEPS - 1)));
    h->bucket[index]++;
    h->count++;
    if (ns > h->max) h->max = ns;
}

/* The `share` (0..1) of the recorded times are at most this many milliseconds. */
static double percentile(const Histogram *h, double share) {
    uint64_t seen = 0, target = (uint64_t)(share * (double)h->count);
    for (unsigned i = 0; i < 64 * STEPS; i++) {
        seen += h->bucket[i];
        if (h->bucket[i] && seen > target) {
            int octave = (int)(i / STEPS) + 6;
            uint64_t v = ((uint64_t)STEPS | (i % STEPS)) << (octave - 6);
            return (double)((v - STEPS) * 16) / 1e6;
        }
    }
    return (double)h->max / 1e6;
}

static void print_histogram(const char *name, const Histogram *h) {
    if (!h->count) {
        printf("\"%s\": null, ", name);
        return;
    }
    printf("\"%s\": {\"count\": %llu, \"p50\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f}, ", name,
           (unsigned long long)h->count, percentile(h, 0.50), percentile(h, 0.99), percentile(h, 0.999),
           (double)h->max / 1e6);
}

/* ---- the system's accounting ---- */

/* utime + stime of the servers' processes in seconds, all threads (proc(5): fields 14 and 15, in clock ticks). */
static double server_cpu(void) {
    double sum = 0;
    for (int i = 0; i < server_pid_count; i++) {
        char path[64], text[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", server_pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        char *after_name = strrchr(text, ')');
        unsigned long long utime = 0, stime = 0;
        if (after_name)
            sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &utime, &stime);
        sum += (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK);
    }
    return sum;
}

static double server_rss_kib(void) {
    double sum = 0;
    for (int i = 0; i < server_pid_count; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/status", server_pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        while (fgets(line, sizeof line, f)) {
            double kib;
            if (sscanf(line, "VmRSS: %lf", &kib) == 1) sum += kib;
        }
        fclose(f);
    }
    return sum;
}

static double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- templates ---- */

/*
 * Appends `text` with its places filled: %i index of the connection in its group, %g channel, %M the mark, %P padding,
 * %L length of mark and padding together, %n number of the operation.
 */
static void render(Buffer *b, const char *text, const Conn *c, int channel, const char *mark) {
    char number[24];
    for (const char *p = text; *p; p++) {
        if (*p != '%' || !p[1]) {
            buffer_add(b, p, 1);
            continue;
        }
        long long value = -1;
        switch (*++p) {
        case 'i': value = c->index; break;
        case 'g': value = channel; break;
        case 'n': value = (long long)c->operations; break;
        case 'L': value = (long long)(MARK + pad); break;
        case 'M': buffer_add(b, mark, MARK); continue;
        case 'P': buffer_add(b, pad_text, pad); continue;
        default: buffer_add(b, p, 1); continue;
        }
        buffer_add(b, number, (size_t)snprintf(number, sizeof number, "%lld", value));
    }
}

static void make_mark(char *mark, uint64_t ns, uint32_t number) {
    static const char digits[] = "0123456789abcdef";
    mark[0] = 'z';
    mark[1] = 'T';
    for (int i = 0; i < 16; i++) mark[2 + i] = digits[ns >> (60 - 4 * i) & 15];
    for (int i = 0; i < 8; i++) mark[18 + i] = digits[number >> (28 - 4 * i) & 15];
}

static int hex(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static int read_mark(const char *p, uint64_t *ns, uint32_t *number) {
    if (p[0] != 'z' || p[1] != 'T') return 0;
    uint64_t a = 0;
    uint32_t b = 0;
    for (int i = 2; i < 18; i++) {
        int d = hex((unsigned char)p[i]);
        if (d < 0) return 0;
        a = a << 4 | (unsigned)d;
    }
    for (int i = 18; i < 26; i++) {
        int d = hex((unsigned char)p[i]);
        if (d < 0) return 0;
        b = b << 4 | (unsigned)d;
    }
    *ns = a;
    *number = b;
    return 1;
}

/* ---- sending ---- */

static void watch(Conn *c, int operation) {
    struct epoll_event e = {.events = EPOLLIN | (c->want_write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &e) < 0) die("epoll_ctl");
}

static void drop(Conn *c, const char *why) {
    if (c->state == CLOSED) return;
    if (c->state != READY) {
        failed++;
        if (!sample_error[0]) snprintf(sample_error, sizeof sample_error, "before ready: %s", why);
    } else {
        ready--;
        counters.closed++;
        if (!sample_close[0]) snprintf(sample_close, sizeof sample_close, "%s", why);
    }
    if (c->state == OPENING || c->state == UPGRADING || c->state == GREETING) opening--;
    c->state = CLOSED;
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    memset(&c->in, 0, sizeof c->in);
    memset(&c->out, 0, sizeof c->out);
}

static void flush(Conn *c) {
    while (c->out.len) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) break;
            drop(c, strerror(errno));
            return;
        }
        memmove(c->out.data, c->out.data + n, c->out.len - (size_t)n);
        c->out.len -= (size_t)n;
    }
    int want = c->out.len > 0;
    if (want != c->want_write) {
        c->want_write = want;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void send_text(Conn *c, const char *text, int channel, const char *mark) {
    static Buffer message;
    message.len = 0;
    render(&message, text, c, channel, mark);
    ws_append(&c->out, WS_TEXT, message.data, message.len, 1);
    if (!c->dirty) {
        c->dirty = 1;
        dirty_list[dirty_count++] = (int)(c - conns);
    }
}

static void flush_dirty(void) {
    for (int i = 0; i < dirty_count; i++) {
        Conn *c = &conns[dirty_list[i]];
        c->dirty = 0;
        if (c->state != CLOSED && c->state != OPENING) flush(c);
    }
    dirty_count = 0;
}

/* One message, or every `altevery`-th time the group's other request. `due`: the moment its time runs from. */
static void publish(int publisher, uint64_t due) {
    Conn *c = &conns[publishers[publisher]];
    Group *g = c->group;
    char mark[MARK];
    if (c->state != READY) return;
    if (limit && counters.sent >= limit) return;
    c->operations++;
    outstanding++;
    int alternate = g->altevery && c->operations % (uint64_t)g->altevery == 0;
    int wait_ack = alternate || complete_ack;
    if (wait_ack) c->fifo[c->fifo_tail++ % MESSAGES] = due;
    if (alternate) {
        counters.alternate++;
        make_mark(mark, due, 0);
        send_text(c, g->alt, 0, mark);
        return;
    }
    uint32_t number = next_number++;
    int channel = (int)(next_channel++ % (uint64_t)channel_count);
    make_mark(mark, due, number);
    messages[number % MESSAGES] = (Message){due, number, members[channel], publisher};
    expected_deliveries += members[channel];
    counters.sent++;
    send_text(c, g->publish, channel, mark);
}

static void completed(int publisher) {
    last_progress = now();
    if (outstanding > 0) outstanding--;
    if (running && !strcmp(mode, "closed")) publish(publisher, last_progress);
}

/* ---- receiving ---- */

static void delivered(Conn *c, uint64_t sent, uint32_t number, uint64_t at) {
    c->marks++;
    counters.delivered++;
    last_progress = at;
    if (recording && at > sent) record(&delivery_times, at - sent);
    Message *m = &messages[number % MESSAGES];
    if (m->number != number) {
        counters.unknown++;
        return;
    }
    if (!m->remaining) {
        counters.duplicates++;
        return;
    }
    if (--m->remaining == 0 && !complete_ack) completed(m->publisher);
}

static void scan_marks(Conn *c, const char *data, size_t len, uint64_t at) {
    Group *g = c->group;
    uint64_t sent;
    uint32_t number;
    size_t from = 0;
    if (g->hint + MARK <= len && read_mark(data + g->hint, &sent, &number)) {
        delivered(c, sent, number, at);
        from = g->hint + MARK;
        if (!g->carry && len < from + 64) return;
    }
    while (from + MARK <= len) {
        const char *p = memmem(data + from, len - from, "zT", 2);
        if (!p) break;
        size_t offset = (size_t)(p - data);
        if (offset + MARK <= len && read_mark(p, &sent, &number)) {
            if (from == 0) g->hint = offset;
            delivered(c, sent, number, at);
            from = offset + MARK;
        } else {
            from = offset + 2;
        }
    }
}

/* Protocols that are a stream inside the frames (NATS) may cut a message in two: look at the seam too. */
static void scan_seam(Conn *c, const char *data, size_t len, uint64_t at) {
    char seam[2 * MARK];
    size_t head = len < MARK ? len : MARK;
    uint64_t sent;
    uint32_t number;
    memcpy(seam, c->tail, (size_t)c->tail_len);
    memcpy(seam + c->tail_len, data, head);
    for (size_t i = 0; (int)i < c->tail_len && i + MARK <= (size_t)c->tail_len + head; i++)
        if (read_mark(seam + i, &sent, &number)) delivered(c, sent, number, at);
    scan_marks(c, data, len, at);
    c->tail_len = (int)(len < MARK - 1 ? len : MARK - 1);
    memcpy(c->tail, data + len - c->tail_len, (size_t)c->tail_len);
}

static int contains(const char *data, size_t len, const char *what) {
    return memmem(data, len, what, strlen(what)) != NULL;
}

static void next_hello(Conn *c) {
    static const char no_mark[MARK + 1] = "zT------------------------";
    Group *g = c->group;
    while (c->step < g->hellos) {
        send_text(c, g->hello[c->step].text, c->channel, no_mark);
        if (g->hello[c->step].expect) return;
        c->step++;
    }
    if (c->state != READY) {
        c->state = READY;
        ready++;
        opening--;
    }
}

static void upgraded(Conn *c) {
    c->state = GREETING;
    if (c->group->hold) {
        c->state = READY;
        ready++;
        opening--;
    } else if (c->group->first) {
        c->waiting_first = 1;
    } else {
        next_hello(c);
    }
}

static void answered(Conn *c, const char *data, size_t len, uint64_t at) {
    Group *g = c->group;
    size_t mark_len = strlen(g->ackmark);
    const char *p = data;
    while ((p = memmem(p, len - (size_t)(p - data), g->ackmark, mark_len))) {
        p += mark_len;
        if (c->fifo_head == c->fifo_tail) return;
        uint64_t sent = c->fifo[c->fifo_head++ % MESSAGES];
        counters.acked++;
        if (recording && at > sent) record(&ack_times, at - sent);
        completed(c->publisher);
        if (!g->ackall) return;
    }
}

static void on_text(Conn *c, char *data, size_t len, uint64_t at) {
    Group *g = c->group;
    counters.frames++;
    counters.bytes += len;
    if (g->subscriber && (c->state == READY || c->step >= g->hellos)) {
        uint64_t before = counters.delivered;
        if (g->carry) scan_seam(c, data, len, at);
        else scan_marks(c, data, len, at);
        if (counters.delivered != before) {
            if (!first_frame_size) first_frame_size = len;
            return;
        }
    }
    if (errmark && contains(data, len, errmark)) {
        counters.errors++;
        if (!sample_error[0]) snprintf(sample_error, sizeof sample_error, "%.*s", (int)(len < 500 ? len : 500), data);
    }
    if (g->pingmark && len >= strlen(g->pingmark) && !memcmp(data, g->pingmark, strlen(g->pingmark)))
        send_text(c, g->pongtext, c->channel, NULL);
    if (c->waiting_first) {
        if (!contains(data, len, g->first)) return;
        c->waiting_first = 0;
        next_hello(c);
    } else if (c->step < g->hellos && (c->state == GREETING || g->hold)) {
        if (!g->hello[c->step].expect || !contains(data, len, g->hello[c->step].expect)) return;
        c->step++;
        next_hello(c);
        if (g->subscriber && c->step >= g->hellos) scan_marks(c, data, len, at);
    } else if (g->ackmark) {
        answered(c, data, len, at);
    }
}

static void on_frame(Conn *c, Frame *f, uint64_t at) {
    if (f->opcode <= WS_BINARY) {
        on_text(c, f->payload, f->len, at);
    } else if (f->opcode == WS_PING) {
        ws_append(&c->out, WS_PONG, f->payload, f->len < 125 ? f->len : 125, 1);
        flush(c);
    } else if (f->opcode == WS_CLOSE) {
        char why[128];
        int code = f->len >= 2 ? (unsigned char)f->payload[0] << 8 | (unsigned char)f->payload[1] : 1005;
        snprintf(why, sizeof why, "closed by the server, %d %.*s", code, f->len > 2 ? (int)(f->len - 2) : 0, f->payload + 2);
        drop(c, why);
    }
}

static void on_readable(Conn *c) {
    size_t have = c->in.len;
    if (have) memcpy(read_buffer, c->in.data, have);
    ssize_t n = recv(c->fd, read_buffer + have, READ_SIZE - have, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        drop(c, n == 0 ? "connection ended" : strerror(errno));
        return;
    }
    uint64_t at = now();
    char *data = read_buffer;
    size_t len = have + (size_t)n;
    if (c->state == UPGRADING) {
        char *end = memmem(data, len, "\r\n\r\n", 4);
        if (end) {
            if (len < 12 || memcmp(data + 9, "101", 3)) {
                char why[128];
                snprintf(why, sizeof why, "upgrade refused: %.*s", (int)((char *)memchr(data, '\r', len) - data), data);
                drop(c, why);
                return;
            }
            len -= (size_t)(end + 4 - data);
            data = end + 4;
            upgraded(c);
        }
    }
    if (c->state > UPGRADING) {
        Frame f;
        while (c->state != CLOSED && ws_parse(data, len, &f)) {
            on_frame(c, &f, at);
            data += f.total;
            len -= f.total;
        }
        if (c->state == CLOSED) return;
    }
    c->in.len = 0;
    if (len) buffer_add(&c->in, data, len);
    if (len == READ_SIZE) drop(c, "frame larger than the generator reads");
}

static void on_writable(Conn *c) {
    if (c->state == OPENING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            drop(c, strerror(error));
            return;
        }
        c->state = UPGRADING;
        Buffer request = {0};
        buffer_add(&request, "GET ", 4);
        render(&request, c->group->path, c, c->channel, NULL);
        char rest[256];
        int n = snprintf(rest, sizeof rest,
                         " HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n",
                         host, port);
        buffer_add(&request, rest, (size_t)n);
        if (c->group->headers) render(&request, c->group->headers, c, c->channel, NULL);
        buffer_add(&request, "\r\n", 2);
        buffer_add(&c->out, request.data, request.len);
        free(request.data);
    }
    flush(c);
    if (c->state == UPGRADING && !c->out.len && c->want_write) {
        c->want_write = 0;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void open_connection(Conn *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = OPENING;
    c->want_write = 1;
    opening++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        drop(c, strerror(errno));
        return;
    }
    watch(c, EPOLL_CTL_ADD);
}

/* ---- the loop and the phases ---- */

static uint64_t due, interval;

static void publish_due(void) {
    static int publisher;
    uint64_t ticks, t = now();
    if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer");
    while (running && due <= t) {
        publish(publisher++ % publisher_count, due);
        due += interval;
    }
    if (!running) return;
    struct itimerspec at = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void turn(int timeout_ms) {
    static struct epoll_event events[1024];
    int n = epoll_wait(epoll, events, 1024, timeout_ms);
    for (int i = 0; i < n; i++) {
        Conn *c = events[i].data.ptr;
        if (!c) {
            publish_due();
            continue;
        }
        if (c->state != CLOSED && events[i].events & EPOLLOUT) on_writable(c);
        if (c->state != CLOSED && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
    }
    flush_dirty();
}

static int connect_all(void) {
    uint64_t deadline = now() + (uint64_t)(timeout * 1e9);
    while (ready + failed + (int)counters.closed < conn_count) {
        while (opened < conn_count && opening < parallel) open_connection(&conns[opened++]);
        turn(100);
        if (now() > deadline) {
            snprintf(sample_error, sizeof sample_error, "only %d of %d connections were ready in %.0f s", ready, conn_count, timeout);
            return 0;
        }
    }
    return failed == 0 && counters.closed == 0;
}

static void start_tokens(void) {
    for (int i = 0; i < tokens; i++) publish(i % publisher_count, now());
    flush_dirty();
}

/* Runs for `length` seconds; messages that never come are given up after `stall` seconds, counted, and sent anew. */
static void run_for(double length) {
    uint64_t end = now() + (uint64_t)(length * 1e9), t;
    while ((t = now()) < end) {
        turn((int)((end - t) / 1000000u) + 1 < 50 ? (int)((end - t) / 1000000u) + 1 : 50);
        if (limit && counters.sent >= limit && !outstanding) break;
        if (running && !strcmp(mode, "closed") && outstanding && now() - last_progress > (uint64_t)(stall * 1e9)) {
            counters.lost += (uint64_t)outstanding;
            outstanding = 0;
            for (int i = 0; i < publisher_count; i++) conns[publishers[i]].fifo_head = conns[publishers[i]].fifo_tail;
            last_progress = now();
            start_tokens();
        }
    }
}

/*
 * Waits for what is still under way. True when all of it came or nothing came for `stall` seconds (what is missing then is
 * lost); false when a server that fell behind is still at it after 5 seconds.
 */
static int drain(void) {
    uint64_t before = ~0ull, quiet = now(), deadline = quiet + 5000000000u;
    while (counters.delivered < expected_deliveries || outstanding > 0) {
        turn(50);
        if (now() > deadline) return 0;
        if (counters.delivered + counters.acked != before) {
            before = counters.delivered + counters.acked;
            quiet = now();
        } else if (now() - quiet > (uint64_t)(stall * 1e9)) {
            return 1;
        }
    }
    return 1;
}

/* One message with no padding shows how much the contender's envelope takes; the rest up to `frame_size` is padding. */
static int calibrate(void) {
    running = 0;
    last_progress = now();
    publish(0, now());
    flush_dirty();
    uint64_t deadline = now() + 5000000000u;
    while ((counters.delivered < expected_deliveries || outstanding > 0) && now() < deadline) turn(50);
    if (expected_deliveries && counters.delivered == 0) {
        if (!sample_error[0]) snprintf(sample_error, sizeof sample_error, "the first message reached nobody in 5 s");
        return 0;
    }
    if ((int)first_frame_size < frame_size) pad = (uint64_t)frame_size - first_frame_size;
    delivered_frame_size = first_frame_size + pad;
    outstanding = 0;
    return 1;
}

static void close_all(void) {
    for (int i = 0; i < opened; i++) {
        Conn *c = &conns[i];
        if (c->state != READY && c->state != GREETING) continue;
        ws_append(&c->out, WS_CLOSE, "\x03\xe8", 2, 1);
        flush(c);
    }
    uint64_t deadline = now() + 3000000000u;
    while (ready > 0 && now() < deadline) turn(50);
}

/* ---- the scenario ---- */

static char *unescape(const char *text) {
    char *out = must(malloc(strlen(text) + 1)), *to = out;
    for (; *text; text++) {
        if (*text == '\\' && (text[1] == 'r' || text[1] == 'n' || text[1] == '\\')) {
            text++;
            *to++ = *text == 'r' ? '\r' : *text == 'n' ? '\n' : '\\';
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
    return out;
}

static void read_scenario(void) {
    static char line[65536];
    Group *g = NULL;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!line[0] || line[0] == '#') continue;
        char *value = strchr(line, ' ');
        if (value) *value++ = 0;
        else value = line + strlen(line);
        const char *k = line;
#define IS(name) (!strcmp(k, name))
        if (IS("host")) snprintf(host, sizeof host, "%s", value);
        else if (IS("port")) port = atoi(value);
        else if (IS("server_pid")) server_pids[server_pid_count++ % 16] = atoi(value);
        else if (IS("mode")) snprintf(mode, sizeof mode, "%s", value);
        else if (IS("complete")) complete_ack = !strcmp(value, "ack");
        else if (IS("tokens")) tokens = atoi(value);
        else if (IS("parallel")) parallel = atoi(value);
        else if (IS("rate")) rate = atof(value);
        else if (IS("warmup")) warmup = atof(value);
        else if (IS("seconds")) seconds = atof(value);
        else if (IS("timeout")) timeout = atof(value);
        else if (IS("stall")) stall = atof(value);
        else if (IS("frame")) frame_size = atoi(value);
        else if (IS("limit")) limit = strtoull(value, NULL, 10);
        else if (IS("need")) need = strtoull(value, NULL, 10);
        else if (IS("errmark")) errmark = unescape(value);
        else if (IS("group")) {
            if (group_count == 8) die("too many groups");
            g = &groups[group_count++];
            snprintf(g->name, sizeof g->name, "%s", value);
            g->channels = 1;
        } else if (!g) {
            fprintf(stderr, "load: unknown key %s\n", k);
            exit(2);
        } else if (IS("count")) g->count = atoi(value);
        else if (IS("path")) g->path = unescape(value);
        else if (IS("headers")) g->headers = unescape(value);
        else if (IS("first")) g->first = unescape(value);
        else if (IS("hello")) g->hello[g->hellos++ % 8].text = unescape(value);
        else if (IS("expect")) g->hello[(g->hellos + 7) % 8].expect = unescape(value);
        else if (IS("channels")) g->channels = atoi(value);
        else if (IS("base")) g->base = atoi(value);
        else if (IS("subscriber")) g->subscriber = atoi(value);
        else if (IS("hold")) g->hold = atoi(value);
        else if (IS("carry")) g->carry = atoi(value);
        else if (IS("publish")) g->publish = unescape(value);
        else if (IS("alt")) g->alt = unescape(value);
        else if (IS("altevery")) g->altevery = atoi(value);
        else if (IS("ackmark")) g->ackmark = unescape(value);
        else if (IS("ackall")) g->ackall = atoi(value);
        else if (IS("ping")) g->pingmark = unescape(value);
        else if (IS("pong")) g->pongtext = unescape(value);
        else {
            fprintf(stderr, "load: unknown key %s\n", k);
            exit(2);
        }
#undef IS
    }
    if (frame_size > 60000) frame_size = 60000;
    memset(pad_text, '.', sizeof pad_text);
}

static void build_connections(void) {
    for (int i = 0; i < group_count; i++) conn_count += groups[i].count;
    conns = must(calloc((size_t)conn_count, sizeof *conns));
    dirty_list = must(calloc((size_t)conn_count + 1, sizeof *dirty_list));
    publishers = must(calloc((size_t)conn_count + 1, sizeof *publishers));
    read_buffer = must(malloc(READ_SIZE));
    int n = 0;
    for (int i = 0; i < group_count; i++) {
        Group *g = &groups[i];
        for (int j = 0; j < g->count; j++, n++) {
            Conn *c = &conns[n];
            c->group = g;
            c->index = j;
            c->channel = g->base + j % g->channels;
            c->fd = -1;
            if (c->channel >= MAX_CHANNELS) die("too many channels");
            if (g->subscriber) {
                members[c->channel]++;
                if (c->channel >= channel_count) channel_count = c->channel + 1;
            }
            if (g->publish) {
                c->fifo = must(calloc(MESSAGES, sizeof *c->fifo));
                c->publisher = publisher_count;
                publishers[publisher_count++] = n;
            }
        }
    }
    if (tokens > (int)MESSAGES / 2) tokens = MESSAGES / 2;
}

/* True when every held connection has `need` messages, or the timeout is over. */
static void collect(void) {
    uint64_t deadline = now() + (uint64_t)(timeout * 1e9);
    for (int i = 0; i < conn_count; i++)
        if (conns[i].group->hold) next_hello(&conns[i]);
    flush_dirty();
    for (;;) {
        int done = 1;
        for (int i = 0; i < conn_count && done; i++) done = !conns[i].group->hold || conns[i].marks >= need;
        if (done || now() > deadline) return;
        for (int i = 0; i < 64; i++) {
            uint64_t before = counters.frames;
            turn(20);
            if (counters.frames == before) break;
        }
    }
}

int main(void) {
    read_scenario();
    build_connections();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) die("epoll");
    double rss_before = server_rss_kib(), cpu = server_cpu();
    uint64_t start = now();
    int ok = connect_all(), drained = 1;
    double connect_seconds = (double)(now() - start) / 1e9, connect_cpu = server_cpu() - cpu;
    Counters at_connect = counters, before = counters, after;
    double wall = 0, server = 0, own = 0, rss_after;
    if (ok && publisher_count && (!strcmp(mode, "closed") || !strcmp(mode, "rate"))) ok = calibrate();
    if (ok) {
        running = 1;
        last_progress = now();
        if (!strcmp(mode, "closed")) start_tokens();
        if (!strcmp(mode, "rate")) {
            timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
            struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
            epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &e);
            interval = (uint64_t)(1e9 / rate);
            due = now();
            publish_due();
        }
        if (strcmp(mode, "collect") && !limit) run_for(warmup);
        recording = 1;
        before = counters;
        cpu = server_cpu();
        own = own_cpu();
        start = now();
        if (!strcmp(mode, "collect")) collect();
        else run_for(limit ? timeout : seconds);
        wall = (double)(now() - start) / 1e9;
        server = server_cpu() - cpu;
        own = own_cpu() - own;
        after = counters;
        recording = running = 0;
        if (strcmp(mode, "collect") && strcmp(mode, "idle")) drained = drain();
    } else {
        after = counters;
    }
    rss_after = server_rss_kib();
    uint64_t missing = expected_deliveries > counters.delivered ? expected_deliveries - counters.delivered : 0, behind = 0;
    if (!drained) {
        behind = missing;
        missing = 0;
    }
    int still_open = ready;
    uint64_t closed_by_server = counters.closed;
    for (int i = 0; i < conn_count && !strcmp(mode, "collect"); i++)
        if (conns[i].group->hold && conns[i].marks < need) missing += need - conns[i].marks;
#define DELTA(name) (unsigned long long)(after.name - before.name)
    printf("{\"ok\": %s, ", ok ? "true" : "false");
    printf("\"connections\": %d, \"open_at_end\": %d, \"failed\": %d, \"closed_by_server\": %llu, ", conn_count, still_open, failed,
           (unsigned long long)closed_by_server);
    printf("\"connect_seconds\": %.4f, \"connect_cpu\": %.4f, \"connect_frames\": %llu, \"connect_bytes\": %llu, ", connect_seconds,
           connect_cpu, (unsigned long long)at_connect.frames, (unsigned long long)at_connect.bytes);
    printf("\"rss_before_kib\": %.0f, \"rss_after_kib\": %.0f, ", rss_before, rss_after);
    printf("\"wall\": %.4f, \"server_cpu\": %.4f, \"generator_cpu\": %.4f, ", wall, server, own);
    printf("\"sent\": %llu, \"delivered\": %llu, \"acked\": %llu, \"alternate\": %llu, \"frames\": %llu, \"bytes\": %llu, ", DELTA(sent),
           DELTA(delivered), DELTA(acked), DELTA(alternate), DELTA(frames), DELTA(bytes));
    printf("\"duplicates\": %llu, \"lost\": %llu, \"missing\": %llu, \"behind\": %llu, \"errors\": %llu, \"unknown\": %llu, ",
           (unsigned long long)counters.duplicates, (unsigned long long)counters.lost, (unsigned long long)missing,
           (unsigned long long)behind, (unsigned long long)counters.errors, (unsigned long long)counters.unknown);
    printf("\"frame_bytes\": %llu, ", (unsigned long long)delivered_frame_size);
    print_histogram("delivery_ms", &delivery_times);
    print_histogram("ack_ms", &ack_times);
    for (char *p = sample_error; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 32) *p = '\'';
    for (char *p = sample_close; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 32) *p = '\'';
    printf("\"first_error\": \"%s\", \"first_close\": \"%s\"}\n", sample_error, sample_close);
    fflush(stdout);
    close_all();
    return 0;
}
