/*
 * What the load generator and the floor share of RFC 6455: the frame header, masking and a growing buffer.
 * Only what a benchmark on the loopback needs: no extensions, no fragmented messages.
 */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

typedef struct {
    char *data;
    size_t len, cap;
} Buffer;

static inline void *must(void *pointer) {
    if (!pointer) {
        perror("out of memory");
        exit(2);
    }
    return pointer;
}

static inline void buffer_reserve(Buffer *b, size_t more) {
    if (b->len + more <= b->cap) return;
    size_t cap = b->cap ? b->cap : 512;
    while (cap < b->len + more) cap *= 2;
    b->data = must(realloc(b->data, cap));
    b->cap = cap;
}

static inline void buffer_add(Buffer *b, const void *data, size_t len) {
    buffer_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

/* One whole frame is appended to `out`; a client's frame is masked (RFC 6455, 5.3), a server's is not. */
static inline void ws_append(Buffer *out, int opcode, const char *payload, size_t len, int masked) {
    unsigned char head[14];
    size_t n = 2;
    head[0] = (unsigned char)(0x80 | opcode);
    if (len < 126) {
        head[1] = (unsigned char)len;
    } else if (len < 65536) {
        head[1] = 126;
        head[2] = (unsigned char)(len >> 8);
        head[3] = (unsigned char)len;
        n = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++) head[2 + i] = (unsigned char)((uint64_t)len >> (56 - 8 * i));
        n = 10;
    }
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    if (masked) {
        head[1] |= 0x80;
        memcpy(head + n, mask, 4);
        n += 4;
    }
    buffer_reserve(out, n + len);
    memcpy(out->data + out->len, head, n);
    char *to = out->data + out->len + n;
    if (masked)
        for (size_t i = 0; i < len; i++) to[i] = (char)(payload[i] ^ mask[i & 3]);
    else
        memcpy(to, payload, len);
    out->len += n + len;
}

typedef struct {
    int opcode;
    char *payload;
    size_t len, total; /* payload bytes; bytes of the whole frame */
} Frame;

/* 1 and `f` filled when a whole frame lies in data[0..len), 0 when more bytes are needed. Unmasks in place. */
static inline int ws_parse(char *data, size_t len, Frame *f) {
    if (len < 2) return 0;
    const unsigned char *p = (const unsigned char *)data;
    size_t at = 2;
    uint64_t n = p[1] & 0x7f;
    if (n == 126) {
        if (len < 4) return 0;
        n = (uint64_t)p[2] << 8 | p[3];
        at = 4;
    } else if (n == 127) {
        if (len < 10) return 0;
        n = 0;
        for (int i = 0; i < 8; i++) n = n << 8 | p[2 + i];
        at = 10;
    }
    int masked = p[1] & 0x80;
    if (masked) at += 4;
    if (len < at || len - at < n) return 0;
    f->opcode = p[0] & 0x0f;
    f->payload = data + at;
    f->len = n;
    f->total = at + n;
    if (masked) {
        const char *mask = data + at - 4;
        for (size_t i = 0; i < n; i++) f->payload[i] ^= mask[i & 3];
    }
    return 1;
}

#endif
