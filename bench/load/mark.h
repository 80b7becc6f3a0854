/*
 * The mark that each message carries: 26 characters, "zT", 16 hex digits of nanoseconds and 8 of its number. A receiver
 * finds the mark, and so knows the delay and the message, whatever envelope the contender puts round it. All of this is
 * inline, because it runs for every message.
 */
#ifndef BENCH_MARK_H
#define BENCH_MARK_H

#include <stdint.h>

#define MARK 26

static inline void make_mark(char *mark, uint64_t ns, uint32_t number) {
    static const char digits[] = "0123456789abcdef";
    mark[0] = 'z';
    mark[1] = 'T';
    for (int i = 0; i < 16; i++) mark[2 + i] = digits[ns >> (60 - 4 * i) & 15];
    for (int i = 0; i < 8; i++) mark[18 + i] = digits[number >> (28 - 4 * i) & 15];
}

static inline int hex_digit(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* 1, with the time and the number, when there is a mark at `p`. */
static inline int read_mark(const char *p, uint64_t *ns, uint32_t *number) {
    if (p[0] != 'z' || p[1] != 'T') return 0;
    uint64_t a = 0;
    uint32_t b = 0;
    for (int i = 2; i < 18; i++) {
        int d = hex_digit((unsigned char)p[i]);
        if (d < 0) return 0;
        a = a << 4 | (unsigned)d;
    }
    for (int i = 18; i < 26; i++) {
        int d = hex_digit((unsigned char)p[i]);
        if (d < 0) return 0;
        b = b << 4 | (unsigned)d;
    }
    *ns = a;
    *number = b;
    return 1;
}

#endif
