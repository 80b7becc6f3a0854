/* The usual frame in one pass, without a copy. bus/protocol/usual.py is the definition: what is taken here is taken there, with
 * the same result (tests/speed/test_grammar.py). Whatever is rare or in doubt is left to it: escapes in names, keys that come
 * twice, lone surrogates, large numbers, characters whose printability only Python's tables know.
 */
#include "plain.h"

#include <string.h>

struct cursor {
    const unsigned char *at, *end;
    unsigned deepest;
    bool targets; /* whether `"to` or `"target` was seen, which may name the targets of a private message */
};

/* The message that a payload holds, as in `inner_text`. */
struct inner {
    struct span message, content;
};

#define TEXT(s) ((struct span){s, sizeof(s) - 1})

static bool
same(struct span span, struct span other)
{
    return span.size == other.size && memcmp(span.at, other.at, other.size) == 0;
}

static bool
begins(const unsigned char *at, const unsigned char *end, struct span text)
{
    return (size_t)(end - at) >= text.size && memcmp(at, text.at, text.size) == 0;
}

static void
skip_blank(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
}

/* Whether `byte` comes next, after blanks. It is then behind the cursor. */
static bool
take(struct cursor *c, unsigned char byte)
{
    skip_blank(c);
    if (c->at == c->end || *c->at != byte)
        return false;
    c->at++;
    return true;
}

/* A quote is behind the cursor, and perhaps the first letters of a target's key before it. */
static void
note_quote(struct cursor *c)
{
    if (begins(c->at, c->end, TEXT("to")) || begins(c->at, c->end, TEXT("target")))
        c->targets = true;
}

/* The four digits of a \u escape; -1 if they are none. */
static int
hex4(const unsigned char *at)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char byte = at[i];
        if (byte >= '0' && byte <= '9')
            value = value << 4 | (byte - '0');
        else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f')
            value = value << 4 | ((byte | 0x20) - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* The cursor is behind a backslash. A surrogate counts as a pair only. */
static bool
skip_escape(struct cursor *c)
{
    if (c->at == c->end)
        return false;
    unsigned char byte = *c->at++;
    if (byte == '"')
        note_quote(c);
    if (byte != 'u')
        return byte && strchr("\"\\/bfnrt", byte) != NULL;
    if (c->end - c->at < 4)
        return false;
    int value = hex4(c->at);
    c->at += 4;
    if (value < 0xd800 || value > 0xdfff)
        return value >= 0;
    if (value > 0xdbff || c->end - c->at < 6 || c->at[0] != '\\' || c->at[1] != 'u')
        return false;
    value = hex4(c->at + 2);
    c->at += 6;
    return value >= 0xdc00 && value <= 0xdfff;
}

/* Whether any of eight bytes ends the plain part of a string: a quote, a backslash, a control character. A borrow may make it
 * true for some others, which the caller then looks at one by one. */
static bool
ends_plain(const unsigned char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
    uint64_t part;
    memcpy(&part, at, 8);
    uint64_t quote = part ^ (ones * '"'), slash = part ^ (ones * '\\');
    return (((part - ones * 0x20) & ~part) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & highs;
}

/* The string whose opening quote is behind the cursor. `plain` says that it has no escape. */
static bool
skip_string(struct cursor *c, struct span *text, bool *plain)
{
    const unsigned char *start = c->at;
    *plain = true;
    note_quote(c);
    for (;;) {
        while (c->end - c->at >= 8 && !ends_plain(c->at))
            c->at += 8;
        if (c->at == c->end || *c->at < 0x20)
            return false;
        unsigned char byte = *c->at++;
        if (byte == '"')
            break;
        if (byte == '\\') {
            *plain = false;
            if (!skip_escape(c))
                return false;
        }
    }
    *text = (struct span){(const char *)start, (size_t)(c->at - start - 1)};
    return true;
}

static size_t
skip_digits(struct cursor *c)
{
    const unsigned char *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    return (size_t)(c->at - start);
}

/* A number that is surely within the ranges of bus/protocol/numbers.py: 18 digits, and an exponent below 100. */
static bool
skip_number(struct cursor *c)
{
    if (*c->at == '-')
        c->at++;
    const unsigned char *first = c->at;
    size_t digits = skip_digits(c);
    if (digits == 0 || digits > 18 || (*first == '0' && digits > 1))
        return false;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!skip_digits(c))
            return false;
    }
    if (c->at < c->end && (*c->at | 0x20) == 'e') {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        digits = skip_digits(c);
        return digits >= 1 && digits <= 2;
    }
    return true;
}

static bool skip_value(struct cursor *c, unsigned depth, struct span *value);

/* The key whose opening quote comes next, and its colon. */
static bool
skip_key(struct cursor *c, struct span *key, bool *plain)
{
    return take(c, '"') && skip_string(c, key, plain) && take(c, ':');
}

/* The object whose brace is behind the cursor. `inner` gets the message of a payload; the last of two counts, as in a dict. */
static bool
skip_object(struct cursor *c, unsigned depth, struct inner *inner)
{
    if (depth > c->deepest)
        return false;
    if (take(c, '}'))
        return true;
    do {
        struct span key, value;
        bool plain;
        if (!skip_key(c, &key, &plain) || (inner != NULL && !plain) || !skip_value(c, depth + 1, &value))
            return false;
        if (inner != NULL && same(key, TEXT("message")))
            inner->message = value;
        else if (inner != NULL && same(key, TEXT("content")))
            inner->content = value;
    } while (take(c, ','));
    return take(c, '}');
}

static bool
skip_array(struct cursor *c, unsigned depth)
{
    if (depth > c->deepest)
        return false;
    if (take(c, ']'))
        return true;
    do {
        struct span value;
        if (!skip_value(c, depth + 1, &value))
            return false;
    } while (take(c, ','));
    return take(c, ']');
}

static bool
skip_word(struct cursor *c, struct span word)
{
    if (!begins(c->at, c->end, word))
        return false;
    c->at += word.size;
    return true;
}

/* Any value, after blanks. `depth` is that of its brackets. It calls itself at most DEEPEST times. */
static bool
skip_value(struct cursor *c, unsigned depth, struct span *value)
{
    skip_blank(c);
    if (c->at == c->end)
        return false;
    const unsigned char *start = c->at;
    struct span text;
    bool plain, good;
    switch (*start) {
    case '"':
        c->at++;
        good = skip_string(c, &text, &plain);
        break;
    case '{':
        c->at++;
        good = skip_object(c, depth, NULL);
        break;
    case '[':
        c->at++;
        good = skip_array(c, depth);
        break;
    case 't':
        good = skip_word(c, TEXT("true"));
        break;
    case 'f':
        good = skip_word(c, TEXT("false"));
        break;
    case 'n':
        good = skip_word(c, TEXT("null"));
        break;
    default:
        good = skip_number(c);
    }
    *value = (struct span){(const char *)start, (size_t)(c->at - start)};
    return good;
}

/* A text without escapes, or null. */
static bool
read_text(struct cursor *c, struct span *out)
{
    bool plain;
    if (take(c, '"'))
        return skip_string(c, out, &plain) && plain;
    return skip_word(c, TEXT("null"));
}

static bool
read_flag(struct cursor *c, bool *out)
{
    skip_blank(c);
    *out = c->at < c->end && *c->at == 't';
    return skip_word(c, *out ? TEXT("true") : TEXT("false"));
}

/* Any JSON but null, which counts as absent. */
static bool
read_raw(struct cursor *c, struct span *out)
{
    struct span value;
    if (!skip_value(c, 2, &value))
        return false;
    if (value.at[0] != 'n')
        *out = value;
    return true;
}

/* An object or null. Sets the targets' mark for this payload alone. */
static bool
read_payload(struct cursor *c, struct span *out, struct inner *inner)
{
    skip_blank(c);
    const unsigned char *start = c->at;
    if (c->at == c->end || *c->at != '{')
        return skip_word(c, TEXT("null"));
    c->at++;
    c->targets = false;
    if (!skip_object(c, 2, inner) || c->targets)
        return false;
    *out = (struct span){(const char *)start, (size_t)(c->at - start)};
    return true;
}

/* The keys of a frame, each with its bit: a key that comes twice is left to Python. */
enum { TYPE = 1, ID = 2, ROOM = 4, CHANNEL = 8, PAYLOAD = 16, MESSAGE = 32, ACK = 64, ECHO = 128, VERSION = 256,
       TIMESTAMP = 512, METADATA = 1024, FROM = 2048 };

static const struct {
    struct span name;
    unsigned bit;
} keys[] = {
    {TEXT("type"), TYPE}, {TEXT("id"), ID}, {TEXT("room"), ROOM}, {TEXT("channel"), CHANNEL},
    {TEXT("payload"), PAYLOAD}, {TEXT("message"), MESSAGE}, {TEXT("ack"), ACK}, {TEXT("echo"), ECHO},
    {TEXT("version"), VERSION}, {TEXT("timestamp"), TIMESTAMP}, {TEXT("metadata"), METADATA}, {TEXT("from"), FROM},
};

static unsigned
bit_of(struct span key)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (same(key, keys[i].name))
            return keys[i].bit;
    return 0;
}

static bool
read_member(struct cursor *c, unsigned bit, struct usual *out, struct inner *inner)
{
    switch (bit) {
    case TYPE:
        return read_text(c, &out->type);
    case ID:
        return read_text(c, &out->id);
    case ROOM:
        return read_text(c, &out->room);
    case CHANNEL:
        return read_text(c, &out->channel);
    case TIMESTAMP:
        return read_text(c, &out->timestamp);
    case PAYLOAD:
        return read_payload(c, &out->payload, inner);
    case MESSAGE:
        return read_raw(c, &out->message);
    case METADATA:
        return read_raw(c, &out->metadata) && (out->metadata.at == NULL || out->metadata.at[0] == '{');
    case VERSION:
        return read_raw(c, &out->version) && out->version.at != NULL && same(out->version, TEXT("\"1.0\""));
    case FROM:
        return read_raw(c, &out->from);
    case ACK:
        return read_flag(c, &out->ack);
    case ECHO:
        return read_flag(c, &out->echo);
    default:
        return false;
    }
}

/* The value of the digits at `at`; -1 if one of them is none. */
static int
number_at(const char *at, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

/* YYYY-MM-DDTHH:MM:SS with three or six decimals or none, and Z or nothing: what programs write. */
static bool
is_time(struct span text)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *at = text.at;
    size_t size = text.size;
    if (size >= 20 && at[size - 1] == 'Z')
        size--;
    if ((size != 19 && size != 23 && size != 26) || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' ||
        at[16] != ':' || (size > 19 && (at[19] != '.' || number_at(at + 20, (int)size - 20) < 0)))
        return false;
    int year = number_at(at, 4), month = number_at(at + 5, 2), day = number_at(at + 8, 2);
    int hour = number_at(at + 11, 2), minute = number_at(at + 14, 2), second = number_at(at + 17, 2);
    if (year < 1 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 59)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (month == 2 && leap);
}

/* Whether all characters are ASCII and printable. */
static bool
is_printable(struct span text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.at[i] < 0x20 || text.at[i] > 0x7e)
            return false;
    return true;
}

static bool
is_plain(struct span id)
{
    for (size_t i = 0; i < id.size; i++) {
        char byte = id.at[i], letter = (char)(byte | 0x20);
        if (!((letter >= 'a' && letter <= 'z') || (byte >= '0' && byte <= '9') || (byte && strchr("_-.:@/", byte))))
            return false;
    }
    return true;
}

/* The types of other kinds of frames, and those that only the server sends. */
static bool
is_published(struct span type)
{
    static const struct span others[] = {TEXT("private"), TEXT("command"), TEXT("telemetry"), TEXT("register"),
        TEXT("ack"), TEXT("error"), TEXT("command_response"), TEXT("stream_end")};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (same(type, others[i]))
            return false;
    return type.size <= 64 && is_printable(type);
}

/* The rules of `usual()` for the keys together. */
static bool
is_usual(struct usual *out)
{
    /* With a version, the type must be given and known; an alias is not. */
    if (out->version.at != NULL) {
        if (out->type.at == NULL || (!same(out->type, TEXT("event")) && !same(out->type, TEXT("system"))) ||
            out->id.at == NULL || out->id.size < 4 || memcmp(out->id.at, "arq_", 4) != 0)
            return false;
    }
    if (out->type.at == NULL || out->type.size == 0 || same(out->type, TEXT("message")))
        out->type = TEXT("event");
    if (!is_published(out->type))
        return false;
    if (out->id.at != NULL) {
        if (out->id.size < 1 || out->id.size > 128 || !is_printable(out->id))
            return false;
        out->plain_id = is_plain(out->id);
    }
    if (out->room.size == 0)
        out->room.at = NULL;
    if (out->channel.size == 0)
        out->channel.at = NULL;
    /* This channel is the way to an inbox. */
    if (out->channel.at != NULL && same(out->channel, TEXT("pm")))
        return false;
    return out->timestamp.at == NULL || is_time(out->timestamp);
}

bool
read_usual(const char *text, size_t size, const struct usual_limits *limits, struct usual *out)
{
    if (size > limits->bytes || !utf8_valid(text, size))
        return false;
    const unsigned char *start = (const unsigned char *)text;
    struct cursor c = {start, start + size, limits->depth < DEEPEST ? limits->depth : DEEPEST, false};
    struct inner inner = {{NULL, 0}, {NULL, 0}};
    unsigned seen = 0;
    memset(out, 0, sizeof(*out));
    if (c.deepest < 1 || !take(&c, '{'))
        return false;
    if (!take(&c, '}')) {
        do {
            struct span key;
            bool plain;
            if (!skip_key(&c, &key, &plain) || !plain)
                return false;
            unsigned bit = bit_of(key);
            if (!bit || seen & bit || !read_member(&c, bit, out, &inner))
                return false;
            seen |= bit;
        } while (take(&c, ','));
        if (!take(&c, '}'))
            return false;
    }
    skip_blank(&c);
    if (c.at != c.end)
        return false;
    /* The text of a payload is its message, if it is a string; only without the key does its content count. */
    if (out->payload.at != NULL && out->message.at == NULL) {
        struct span found = inner.message.at != NULL ? inner.message : inner.content;
        if (found.at != NULL && found.at[0] == '"')
            out->message = found;
    }
    return is_usual(out);
}
