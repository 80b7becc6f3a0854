/* Frames of RFC 6455 as clients send them, and the check of their text. Any unusual frame is left to the server's parser. */
#include "plain.h"

#include <string.h>

bool
ws_next(const unsigned char *data, size_t size, size_t largest, struct ws_frame *out)
{
    if (size < 6 || data[0] != 0x81 || data[1] < 0x80)
        return false;
    size_t length = data[1] & 0x7f, head = 6;
    if (length > 126)
        return false;
    if (length == 126) {
        if (size < 8)
            return false;
        length = (size_t)data[2] << 8 | data[3];
        head = 8;
        if (length < 126)
            return false;
    }
    if (length > largest || length > size - head)
        return false;
    out->mask = data + head - 4;
    out->payload = data + head;
    out->size = length;
    out->total = head + length;
    return true;
}

void
ws_unmask(const struct ws_frame *frame, char *out)
{
    /* Eight bytes at once; memcpy, because neither side is aligned. */
    unsigned char twice[8];
    memcpy(twice, frame->mask, 4);
    memcpy(twice + 4, frame->mask, 4);
    uint64_t mask, part;
    memcpy(&mask, twice, 8);
    size_t i = 0;
    for (; frame->size - i >= 8; i += 8) {
        memcpy(&part, frame->payload + i, 8);
        part ^= mask;
        memcpy(out + i, &part, 8);
    }
    for (; i < frame->size; i++)
        out[i] = (char)(frame->payload[i] ^ twice[i & 3]);
}

/* The bytes of the character that begins at `at`, of two to four; 0 if it is none. */
static size_t
wide(const unsigned char *at, size_t left)
{
    unsigned char first = at[0], low = 0x80, high = 0xbf;
    size_t size;
    if (first >= 0xc2 && first <= 0xdf)
        size = 2;
    else if (first >= 0xe0 && first <= 0xef)
        size = 3;
    else if (first >= 0xf0 && first <= 0xf4)
        size = 4;
    else
        return 0;
    /* The second byte excludes longer forms than needed, surrogates, and what lies beyond U+10FFFF. */
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    if (left < size || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

bool
utf8_valid(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t i = 0;
    while (i < size) {
        uint64_t part;
        if (size - i >= 8) {
            memcpy(&part, at + i, 8);
            if (!(part & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        size_t step = at[i] < 0x80 ? 1 : wide(at + i, size - i);
        if (!step)
            return false;
        i += step;
    }
    return true;
}
