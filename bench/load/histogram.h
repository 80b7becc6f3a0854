/* A logarithmic histogram of times. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

/* 64 steps per octave, so a percentile is right to 1.6 %. */
#define STEPS 64

typedef struct {
    uint64_t bucket[64 * STEPS], count, max;
} Histogram;

/* Inline, because it runs for every message. */
static inline void record(Histogram *h, uint64_t ns) {
    uint64_t v = ns / 16 + STEPS; /* from 16 ns up; below STEPS the steps would be no steps */
    int octave = 63 - __builtin_clzll(v);
    unsigned index = (unsigned)((octave - 6) * STEPS + (int)((v >> (octave - 6)) & (STEPS - 1)));
    h->bucket[index]++;
    h->count++;
    if (ns > h->max) h->max = ns;
}

/* Prints `"name": {…}, ` with the percentiles in milliseconds, or null without any time. */
void print_histogram(const char *name, const Histogram *h);

#endif
