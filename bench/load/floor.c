/*
 * The floor: a WebSocket server that does nothing but write. What is left of its time is the kernel's share, which no
 * server that writes to the same number of sockets can be under.
 *
 * A client of /sub/<channel> is a member of that channel. A text frame of any other client is "<channel> <text>": the
 * text goes to every member of the channel. Frames that arrive in one turn of the loop are joined into one write per
 * member, or, with "each" as the second argument, written one by one. It answers the upgrade with a fixed key (the
 * generator does not check it), knows no fragments, and drops what a socket does not take at once: a benchmark's peer,
 * not a server for anything else.
 */
#include "ws.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANNELS 20000
#define READ_SIZE (1 << 20)

typedef struct {
    int fd, upgraded, channel; /* channel -1: a publisher */
    Buffer in;
} Client;

typedef struct {
    Client **member;
    int count, cap, dirty;
    Buffer turn; /* the frames of this turn of the loop */
} Channel;

static Channel channels[CHANNELS];
static int dirty[CHANNELS], dirty_count, epoll, join = 1;
static char *read_buffer;

static void leave(Client *c) {
    if (c->channel >= 0 && c->upgraded) {
        Channel *ch = &channels[c->channel];
        for (int i = 0; i < ch->count; i++)
            if (ch->member[i] == c) {
                ch->member[i] = ch->member[--ch->count];
                break;
            }
    }
    close(c->fd);
    free(c->in.data);
    free(c);
}

static void say(int fd, const char *data, size_t len) {
    if (write(fd, data, len) < 0 && errno != EAGAIN && errno != EPIPE && errno != ECONNRESET) perror("write");
}

static void upgrade(Client *c, const char *request) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: c2VlIHRoZSBjb21tZW50IGF0IHRvcA==\r\n\r\n";
    c->upgraded = 1;
    c->channel = -1;
    if (!strncmp(request, "GET /sub/", 9)) {
        c->channel = atoi(request + 9) % CHANNELS;
        Channel *ch = &channels[c->channel];
        if (ch->count == ch->cap) {
            ch->cap = ch->cap ? ch->cap * 2 : 8;
            ch->member = must(realloc(ch->member, (size_t)ch->cap * sizeof *ch->member));
        }
        ch->member[ch->count++] = c;
    }
    say(c->fd, answer, sizeof answer - 1);
}

static void write_out(Channel *ch) {
    for (int j = 0; j < ch->count; j++) say(ch->member[j]->fd, ch->turn.data, ch->turn.len);
    ch->turn.len = 0;
}

static void on_frame(Client *c, Frame *f) {
    if (f->opcode == WS_CLOSE) {
        Buffer out = {0};
        ws_append(&out, WS_CLOSE, f->payload, f->len < 125 ? f->len : 125, 0);
        say(c->fd, out.data, out.len);
        free(out.data);
    } else if (f->opcode == WS_TEXT) {
        char *space = memchr(f->payload, ' ', f->len);
        if (!space) return;
        int number = atoi(f->payload) % CHANNELS;
        Channel *ch = &channels[number];
        ws_append(&ch->turn, WS_TEXT, space + 1, f->len - (size_t)(space + 1 - f->payload), 0);
        if (!join) {
            write_out(ch);
        } else if (!ch->dirty) {
            ch->dirty = 1;
            dirty[dirty_count++] = number;
        }
    }
}

static void on_readable(Client *c) {
    size_t have = c->in.len;
    memcpy(read_buffer, c->in.data ? c->in.data : "", have);
    ssize_t n = read(c->fd, read_buffer + have, READ_SIZE - have - 1);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        leave(c);
        return;
    }
    char *data = read_buffer;
    size_t len = have + (size_t)n;
    data[len] = 0;
    if (!c->upgraded) {
        char *end = strstr(data, "\r\n\r\n");
        if (end) {
            upgrade(c, data);
            len -= (size_t)(end + 4 - data);
            data = end + 4;
        }
    }
    Frame f;
    while (c->upgraded && ws_parse(data, len, &f)) {
        on_frame(c, &f);
        data += f.total;
        len -= f.total;
    }
    c->in.len = 0;
    if (len) buffer_add(&c->in, data, len);
}

int main(int argc, char **argv) {
    join = argc < 3 || strcmp(argv[2], "each");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0"))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
        perror("floor");
        return 1;
    }
    epoll = epoll_create1(0);
    read_buffer = must(malloc(READ_SIZE));
    struct epoll_event events[1024], e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            Client *c = events[i].data.ptr;
            if (c) {
                on_readable(c);
                continue;
            }
            int fd;
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                c = must(calloc(1, sizeof *c));
                c->fd = fd;
                e.data.ptr = c;
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
            }
        }
        for (int i = 0; i < dirty_count; i++) {
            Channel *ch = &channels[dirty[i]];
            write_out(ch);
            ch->dirty = 0;
        }
        dirty_count = 0;
    }
}
