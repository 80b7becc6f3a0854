/* The result of a run as JSON. */
#include "report.h"

typedef unsigned long long Number;

/* A text that is safe between quotes. */
static const char *quotable(char *text) {
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 32) *p = '\'';
    return text;
}

void print_report(const Report *r) {
#define DELTA(name) (Number)(r->after.name - r->before.name)
    printf("{\"ok\": %s, ", r->ok ? "true" : "false");
    printf("\"connections\": %d, \"open_at_end\": %d, \"failed\": %d, \"closed_by_server\": %llu, ", pool.conn_count,
           pool.ready, pool.failed, (Number)run.counters.closed);
    printf("\"connect_seconds\": %.4f, \"connect_cpu\": %.4f, \"connect_frames\": %llu, \"connect_bytes\": %llu, ",
           r->connect_seconds, r->connect_cpu, (Number)r->at_connect.frames, (Number)r->at_connect.bytes);
    printf("\"rss_before_kib\": %.0f, \"rss_after_kib\": %.0f, ", r->rss_before_kib, r->rss_after_kib);
    printf("\"wall\": %.4f, \"server_cpu\": %.4f, \"generator_cpu\": %.4f, ", r->wall, r->server_cpu, r->own_cpu);
    printf("\"sent\": %llu, \"delivered\": %llu, \"acked\": %llu, \"alternate\": %llu, ", DELTA(sent), DELTA(delivered),
           DELTA(acked), DELTA(alternate));
    printf("\"frames\": %llu, \"bytes\": %llu, ", DELTA(frames), DELTA(bytes));
    const Counters *all = &run.counters;
    printf("\"duplicates\": %llu, \"lost\": %llu, \"missing\": %llu, \"behind\": %llu, ", (Number)all->duplicates,
           (Number)all->lost, (Number)r->missing, (Number)r->behind);
    printf("\"errors\": %llu, \"unknown\": %llu, ", (Number)all->errors, (Number)all->unknown);
    printf("\"frame_bytes\": %llu, ", (Number)run.delivered_frame_size);
    print_histogram("delivery_ms", &run.delivery_times);
    print_histogram("ack_ms", &run.ack_times);
    printf("\"first_error\": \"%s\", \"first_close\": \"%s\"}\n", quotable(run.sample_error),
           quotable(run.sample_close));
    fflush(stdout);
#undef DELTA
}
