/* The event loop, with the timer of messages that leave by the clock. */
#include "load.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int epoll, timer = -1;
/* When the next message leaves by the clock, and the time between two. */
static uint64_t due, interval;

void open_loop(void) {
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) die("epoll");
}

void watch(Conn *c, int operation) {
    struct epoll_event e = {.events = EPOLLIN | (c->want_write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &e) < 0) die("epoll_ctl");
}

static void publish_due(void) {
    static int publisher;
    uint64_t ticks, t = now();
    if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer");
    while (run.running && due <= t) {
        publish(publisher++ % pool.publisher_count, due);
        due += interval;
    }
    if (!run.running) return;
    struct itimerspec at = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

void turn(int timeout_ms) {
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

/* Publishes `settings.rate` messages a second from now on. */
static void start_timer(void) {
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0) die("timer");
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &e) < 0) die("epoll_ctl");
    interval = (uint64_t)(1e9 / settings.rate);
    due = now();
    publish_due();
}

/* `tokens` messages from now on: the next leaves when one is complete. */
static void start_tokens(void) {
    for (int i = 0; i < settings.tokens; i++) publish(i % pool.publisher_count, now());
    flush_dirty();
}

void start_publishing(void) {
    if (settings.mode == CLOSED_LOOP) start_tokens();
    if (settings.mode == RATE) start_timer();
}
