/* The messages: publishing them, and what comes back for each. */
#include "load.h"

Run run;

void publish(int publisher, uint64_t due) {
    Conn *c = &pool.conns[pool.publishers[publisher]];
    Group *g = c->group;
    char mark[MARK];
    if (c->state != READY) return;
    if (settings.limit && run.counters.sent >= settings.limit) return;
    c->operations++;
    run.outstanding++;
    int alternate = g->altevery && c->operations % (uint64_t)g->altevery == 0;
    int wait_ack = alternate || settings.complete_ack;
    if (wait_ack) c->fifo[c->fifo_tail++ % MESSAGES] = due;
    if (alternate) {
        run.counters.alternate++;
        make_mark(mark, due, 0);
        send_text(c, g->alt, 0, mark);
        return;
    }
    uint32_t number = ++run.last_number; /* from 1 on: 0 is the mark of the other request */
    int channel = (int)(run.next_channel++ % (uint64_t)pool.channel_count);
    make_mark(mark, due, number);
    run.messages[number % MESSAGES] = (Message){due, number, pool.members[channel], publisher};
    run.expected_deliveries += pool.members[channel];
    run.counters.sent++;
    send_text(c, g->publish, channel, mark);
}

static void completed(int publisher) {
    run.last_progress = now();
    if (run.outstanding > 0) run.outstanding--;
    if (run.running && settings.mode == CLOSED_LOOP) publish(publisher, run.last_progress);
}

static void delivered(Conn *c, uint64_t sent, uint32_t number, uint64_t at) {
    c->marks++;
    run.counters.delivered++;
    run.last_progress = at;
    if (run.recording && at > sent) record(&run.delivery_times, at - sent);
    Message *m = &run.messages[number % MESSAGES];
    if (m->number != number) {
        run.counters.unknown++;
        return;
    }
    if (!m->remaining) {
        run.counters.duplicates++;
        return;
    }
    if (--m->remaining == 0 && !settings.complete_ack) completed(m->publisher);
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

void next_hello(Conn *c) {
    static const char no_mark[MARK + 1] = "zT------------------------";
    Group *g = c->group;
    while (c->step < g->hellos) {
        send_text(c, g->hello[c->step].text, c->channel, no_mark);
        if (g->hello[c->step].expect) return;
        c->step++;
    }
    if (c->state != READY) {
        c->state = READY;
        pool.ready++;
        pool.opening--;
    }
}

void upgraded(Conn *c) {
    c->state = GREETING;
    if (c->group->hold) {
        c->state = READY;
        pool.ready++;
        pool.opening--;
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
        run.counters.acked++;
        if (run.recording && at > sent) record(&run.ack_times, at - sent);
        completed(c->publisher);
        if (!g->ackall) return;
    }
}

void on_text(Conn *c, char *data, size_t len, uint64_t at) {
    Group *g = c->group;
    run.counters.frames++;
    run.counters.bytes += len;
    if (g->subscriber && (c->state == READY || c->step >= g->hellos)) {
        uint64_t before = run.counters.delivered;
        if (g->carry) scan_seam(c, data, len, at);
        else scan_marks(c, data, len, at);
        if (run.counters.delivered != before) {
            if (!run.first_frame_size) run.first_frame_size = len;
            return;
        }
    }
    if (settings.errmark && contains(data, len, settings.errmark)) {
        run.counters.errors++;
        note_error("%.*s", (int)(len < 500 ? len : 500), data);
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
