/* The result of a run. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "load.h"

typedef struct {
    int ok;
    double connect_seconds, connect_cpu, rss_before_kib, rss_after_kib;
    double wall, server_cpu, own_cpu; /* of the measured time */
    Counters at_connect, before, after;
    uint64_t missing, behind;
} Report;

/* Prints one JSON object. */
void print_report(const Report *r);

#endif
