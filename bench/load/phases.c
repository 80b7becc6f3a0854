/* The phases of a run: connect, calibrate, measure, drain. */
#include "load.h"

int connect_all(void) {
    uint64_t deadline = now() + (uint64_t)(settings.timeout * 1e9);
    while (pool.ready + pool.failed + (int)run.counters.closed < pool.conn_count) {
        while (pool.opened < pool.conn_count && pool.opening < settings.parallel)
            open_connection(&pool.conns[pool.opened++]);
        turn(100);
        if (now() > deadline) {
            run.sample_error[0] = 0; /* this says more than an error before it */
            note_error("only %d of %d connections were ready in %.0f s", pool.ready, pool.conn_count, settings.timeout);
            return 0;
        }
    }
    return pool.failed == 0 && run.counters.closed == 0;
}

/* Whether `stall` seconds have gone since that moment. */
static int stalled(uint64_t since) { return now() - since > (uint64_t)(settings.stall * 1e9); }

/* Counts what is under way as lost, and sends anew. */
static void give_up(void) {
    run.counters.lost += (uint64_t)run.outstanding;
    run.outstanding = 0;
    for (int i = 0; i < pool.publisher_count; i++) {
        Conn *c = &pool.conns[pool.publishers[i]];
        c->fifo_head = c->fifo_tail;
    }
    run.last_progress = now();
    start_publishing();
}

void run_for(double length) {
    uint64_t end = now() + (uint64_t)(length * 1e9), t;
    while ((t = now()) < end) {
        int left = (int)((end - t) / 1000000u) + 1;
        turn(left < 50 ? left : 50);
        if (settings.limit && run.counters.sent >= settings.limit && !run.outstanding) break;
        if (run.running && settings.mode == CLOSED_LOOP && run.outstanding && stalled(run.last_progress)) give_up();
    }
}

int drain(void) {
    uint64_t before = ~0ull, quiet = now(), deadline = quiet + 5000000000u;
    while (run.counters.delivered < run.expected_deliveries || run.outstanding > 0) {
        turn(50);
        if (now() > deadline) return 0;
        if (run.counters.delivered + run.counters.acked != before) {
            before = run.counters.delivered + run.counters.acked;
            quiet = now();
        } else if (stalled(quiet)) {
            return 1;
        }
    }
    return 1;
}

int calibrate(void) {
    run.running = 0;
    run.last_progress = now();
    publish(0, now());
    flush_dirty();
    uint64_t deadline = now() + 5000000000u;
    while ((run.counters.delivered < run.expected_deliveries || run.outstanding > 0) && now() < deadline) turn(50);
    if (run.expected_deliveries && run.counters.delivered == 0) {
        note_error("the first message reached nobody in 5 s");
        return 0;
    }
    if ((int)run.first_frame_size < settings.frame_size) run.pad = (uint64_t)settings.frame_size - run.first_frame_size;
    run.delivered_frame_size = run.first_frame_size + run.pad;
    run.outstanding = 0;
    return 1;
}

void collect(void) {
    uint64_t deadline = now() + (uint64_t)(settings.timeout * 1e9);
    for (int i = 0; i < pool.conn_count; i++)
        if (pool.conns[i].group->hold) next_hello(&pool.conns[i]);
    flush_dirty();
    for (;;) {
        int done = 1;
        for (int i = 0; i < pool.conn_count && done; i++) {
            const Conn *c = &pool.conns[i];
            done = !c->group->hold || c->marks >= settings.need;
        }
        if (done || now() > deadline) return;
        for (int i = 0; i < 64; i++) {
            uint64_t before = run.counters.frames;
            turn(20);
            if (run.counters.frames == before) break;
        }
    }
}
