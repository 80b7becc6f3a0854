/*
 * A WebSocket load generator that costs little enough not to be what is measured.
 *
 * One thread, epoll, no allocation per frame. It reads a scenario from standard input (scenario.c has its keys), opens
 * every connection, says each group's greetings, publishes in one of the modes below, and prints one JSON object. It
 * knows no contender: greetings, messages and answers are templates and marks.
 *
 *   closed   `tokens` messages are under way at any time; the next leaves when one is complete (`complete delivery`:
 *            every member of its channel has it; `complete ack`: the publisher has its answer)
 *   rate     `rate` messages a second by the clock; a message's time runs from the moment it was due, so that a
 *            server which holds up the generator does not hide its own delay
 *   collect  the greetings of held groups leave all at once; it ends when every connection has `need` messages
 *   idle     connect only, then look at the server for `seconds`
 *
 * The parts: scenario (what to do), connection (sockets and frames), template and mark.h (what is sent), messages (what
 * is counted), loop, phases, histogram, usage, report. load.h has what they share.
 */
#include "report.h"
#include "usage.h"

#include <errno.h>
#include <stdarg.h>

void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

void note_error(const char *format, ...) {
    if (run.sample_error[0]) return;
    va_list values;
    va_start(values, format);
    vsnprintf(run.sample_error, sizeof run.sample_error, format, values);
    va_end(values);
}

void refuse(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(2);
}

static double cpu(void) { return server_cpu(settings.server_pids, settings.server_pid_count); }

static double rss_kib(void) { return server_rss_kib(settings.server_pids, settings.server_pid_count); }

/* Says on standard error that the measurement begins or ends, where the caller looks at the servers by itself. */
static void announce(const char *what) {
    if (settings.announce) fprintf(stderr, "%s\n", what);
}

/* Warms up, measures, and waits for what is still under way. Returns what `drain` says. */
static int measure(Report *r) {
    run.running = 1;
    run.last_progress = now();
    start_publishing();
    if (settings.mode != COLLECT && !settings.limit) run_for(settings.warmup);
    run.recording = 1;
    r->before = run.counters;
    double server = cpu(), own = own_cpu();
    uint64_t start = now();
    announce("begin");
    if (settings.mode == COLLECT) collect();
    else run_for(settings.limit ? settings.timeout : settings.seconds);
    announce("end");
    r->wall = (double)(now() - start) / 1e9;
    r->server_cpu = cpu() - server;
    r->own_cpu = own_cpu() - own;
    r->after = run.counters;
    run.recording = run.running = 0;
    return settings.mode == CLOSED_LOOP || settings.mode == RATE ? drain() : 1;
}

/* How many messages never came, or are still to come from a server that fell behind. */
static void count_missing(Report *r, int drained) {
    uint64_t expected = run.expected_deliveries, delivered = run.counters.delivered;
    uint64_t missing = expected > delivered ? expected - delivered : 0;
    if (drained) r->missing = missing;
    else r->behind = missing;
    for (int i = 0; i < pool.conn_count && settings.mode == COLLECT; i++) {
        Conn *c = &pool.conns[i];
        if (c->group->hold && c->marks < settings.need) r->missing += settings.need - c->marks;
    }
}

int main(void) {
    Report r = {0};
    read_scenario();
    build_connections();
    open_loop();
    r.rss_before_kib = rss_kib();
    double before = cpu();
    uint64_t start = now();
    r.ok = connect_all();
    r.connect_seconds = (double)(now() - start) / 1e9;
    r.connect_cpu = cpu() - before;
    r.at_connect = r.before = run.counters;
    if (r.ok && pool.publisher_count && (settings.mode == CLOSED_LOOP || settings.mode == RATE)) r.ok = calibrate();
    int drained = 1;
    if (r.ok) drained = measure(&r);
    else r.after = run.counters;
    r.rss_after_kib = rss_kib();
    count_missing(&r, drained);
    print_report(&r);
    close_connections();
    return 0;
}
