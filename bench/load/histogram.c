/* A logarithmic histogram of times, and its percentiles as JSON. */
#include "histogram.h"

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

void print_histogram(const char *name, const Histogram *h) {
    if (!h->count) {
        printf("\"%s\": null, ", name);
        return;
    }
    printf("\"%s\": {\"count\": %llu, \"p50\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f}, ", name,
           (unsigned long long)h->count, percentile(h, 0.50), percentile(h, 0.99), percentile(h, 0.999),
           (double)h->max / 1e6);
}
