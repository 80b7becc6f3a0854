/* Strange bytes for the plain part of the extension: a target of libFuzzer, and with -DALONE a program that replays files.
 *
 * Alone it also changes each file at random, as often as its first argument says; the second is the seed.
 */
#include "plain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
            abort();                                                         \
        }                                                                    \
    } while (0)

/* A span lies within the text, or is a word of the program: the type "event". */
static void
check_span(struct span span, const char *text, size_t size)
{
    if (span.at == NULL)
        return;
    if (span.at >= text && span.at <= text + size)
        CHECK(span.size <= (size_t)(text + size - span.at));
    else
        CHECK(span.size == 5 && memcmp(span.at, "event", 5) == 0);
}

static void
read_text(const char *text, size_t size)
{
    struct usual all, some;
    const struct usual_limits wide = {size, DEEPEST}, flat = {size, 3}, narrow = {size ? size - 1 : 0, DEEPEST};
    if (!read_usual(text, size, &wide, &all)) {
        CHECK(!read_usual(text, size, &flat, &some));
        return;
    }
    CHECK(utf8_valid(text, size));
    CHECK(all.type.at != NULL && all.type.size <= 64);
    const struct span spans[] = {all.type, all.id, all.room, all.channel, all.payload, all.message, all.metadata, all.timestamp,
        all.from, all.version};
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++)
        check_span(spans[i], text, size);
    /* What the limits allow does not depend on them, and nothing is taken above them. */
    CHECK(!read_usual(text, size, &narrow, &some));
    if (read_usual(text, size, &flat, &some))
        CHECK(memcmp(&all, &some, sizeof(all)) == 0);
    /* A frame that lacks its end is none. */
    while (size && strchr(" \t\r\n", text[size - 1]))
        size--;
    char *part = malloc(size);
    CHECK(part != NULL && size >= 2);
    memcpy(part, text, size - 1);
    part = realloc(part, size - 1);
    CHECK(part != NULL && !read_usual(part, size - 1, &wide, &some));
    free(part);
}

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct ws_frame frame;
    if (ws_next(data, size, 65535, &frame)) {
        CHECK(frame.total <= size && frame.size <= 65535);
        CHECK(frame.payload + frame.size == data + frame.total && frame.mask + 4 == frame.payload);
        CHECK(!ws_next(data, frame.total - 1, 65535, &frame));
        CHECK(!frame.size || !ws_next(data, size, frame.size - 1, &frame));
        char *text = malloc(frame.size ? frame.size : 1);
        CHECK(text != NULL);
        ws_unmask(&frame, text);
        for (size_t i = 0; i < frame.size; i++)
            CHECK((unsigned char)text[i] == (frame.payload[i] ^ frame.mask[i & 3]));
        read_text(text, frame.size);
        free(text);
    }
    read_text((const char *)data, size);
    return 0;
}

#ifdef ALONE
static unsigned
next(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A heap block of exactly these bytes, so that one byte too many is seen. */
static void
try_copy(const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);
    CHECK(copy != NULL);
    memcpy(copy, data, size);
    if (size)
        LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

int
main(int count, char **given)
{
    static const char turns[] = "\"\\{}[],:tfnu0-.eE9 \n\x1f\x7f\x80\xbf\xc2\xed\xf4\xff";
    static unsigned char data[1 << 16];
    CHECK(count > 3);
    unsigned state = (unsigned)atoi(given[2]);
    for (int i = 3; i < count; i++) {
        FILE *file = fopen(given[i], "rb");
        CHECK(file != NULL);
        size_t size = fread(data, 1, sizeof(data), file);
        fclose(file);
        for (size_t part = 0; part <= size; part++)
            try_copy(data, part);
        for (int turn = 0; size && turn < atoi(given[1]); turn++) {
            size_t place = next(&state) % size;
            unsigned char old = data[place];
            data[place] = next(&state) % 2 ? (unsigned char)turns[next(&state) % (sizeof(turns) - 1)] : (unsigned char)next(&state);
            try_copy(data, size);
            if (turn % 8)
                data[place] = old;
        }
    }
    puts("done");
    return 0;
}
#endif
