/* Requests and messages from the scenario's templates. */
#include "load.h"

/* Adds `len` bytes of padding. */
static void add_padding(Buffer *b, size_t len) {
    buffer_reserve(b, len);
    memset(b->data + b->len, '.', len);
    b->len += len;
}

void render(Buffer *b, const char *text, const Conn *c, int channel, const char *mark) {
    char number[24];
    for (const char *p = text; *p; p++) {
        if (*p != '%' || !p[1]) {
            buffer_add(b, p, 1);
            continue;
        }
        long long value = -1;
        switch (*++p) {
        case 'i': value = c->index; break;
        case 'g': value = channel; break;
        case 'n': value = (long long)c->operations; break;
        case 'L': value = (long long)(MARK + run.pad); break;
        case 'M': buffer_add(b, mark, MARK); continue;
        case 'P': add_padding(b, run.pad); continue;
        default: buffer_add(b, p, 1); continue;
        }
        buffer_add(b, number, (size_t)snprintf(number, sizeof number, "%lld", value));
    }
}
