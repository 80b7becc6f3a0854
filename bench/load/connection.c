/* The sockets: opening, the upgrade, frames in and out. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE (4 << 20)

static char read_buffer[READ_SIZE];
/* The connections that have something to send since the last `flush_dirty`. */
static int *dirty, dirty_count;

static void drop(Conn *c, const char *why) {
    if (c->state == CLOSED) return;
    if (c->state != READY) {
        pool.failed++;
        note_error("before ready: %s", why);
    } else {
        pool.ready--;
        run.counters.closed++;
        if (!run.sample_close[0]) snprintf(run.sample_close, sizeof run.sample_close, "%s", why);
    }
    if (c->state == OPENING || c->state == UPGRADING || c->state == GREETING) pool.opening--;
    c->state = CLOSED;
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    memset(&c->in, 0, sizeof c->in);
    memset(&c->out, 0, sizeof c->out);
}

static void flush(Conn *c) {
    while (c->out.len) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) break;
            drop(c, strerror(errno));
            return;
        }
        memmove(c->out.data, c->out.data + n, c->out.len - (size_t)n);
        c->out.len -= (size_t)n;
    }
    int want = c->out.len > 0;
    if (want != c->want_write) {
        c->want_write = want;
        watch(c, EPOLL_CTL_MOD);
    }
}

void send_text(Conn *c, const char *text, int channel, const char *mark) {
    static Buffer message;
    message.len = 0;
    render(&message, text, c, channel, mark);
    ws_append(&c->out, WS_TEXT, message.data, message.len, 1);
    if (!c->dirty) {
        c->dirty = 1;
        if (!dirty) dirty = must(calloc((size_t)pool.conn_count, sizeof *dirty));
        dirty[dirty_count++] = (int)(c - pool.conns);
    }
}

void flush_dirty(void) {
    for (int i = 0; i < dirty_count; i++) {
        Conn *c = &pool.conns[dirty[i]];
        c->dirty = 0;
        if (c->state != CLOSED && c->state != OPENING) flush(c);
    }
    dirty_count = 0;
}

static void on_frame(Conn *c, Frame *f, uint64_t at) {
    if (f->opcode <= WS_BINARY) {
        on_text(c, f->payload, f->len, at);
    } else if (f->opcode == WS_PING) {
        ws_append(&c->out, WS_PONG, f->payload, f->len < 125 ? f->len : 125, 1);
        flush(c);
    } else if (f->opcode == WS_CLOSE) {
        char why[128];
        int code = f->len >= 2 ? (unsigned char)f->payload[0] << 8 | (unsigned char)f->payload[1] : 1005;
        int length = f->len > 2 ? (int)(f->len - 2) : 0;
        snprintf(why, sizeof why, "closed by the server, %d %.*s", code, length, f->payload + 2);
        drop(c, why);
    }
}

void on_readable(Conn *c) {
    size_t have = c->in.len;
    if (have) memcpy(read_buffer, c->in.data, have);
    ssize_t n = recv(c->fd, read_buffer + have, READ_SIZE - have, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        drop(c, n == 0 ? "connection ended" : strerror(errno));
        return;
    }
    uint64_t at = now();
    char *data = read_buffer;
    size_t len = have + (size_t)n;
    if (c->state == UPGRADING) {
        char *end = memmem(data, len, "\r\n\r\n", 4);
        if (end) {
            if (len < 12 || memcmp(data + 9, "101", 3)) {
                char why[128];
                snprintf(why, sizeof why, "upgrade refused: %.*s", (int)((char *)memchr(data, '\r', len) - data), data);
                drop(c, why);
                return;
            }
            len -= (size_t)(end + 4 - data);
            data = end + 4;
            upgraded(c);
        }
    }
    if (c->state > UPGRADING) {
        Frame f;
        while (c->state != CLOSED && ws_parse(data, len, &f)) {
            on_frame(c, &f, at);
            data += f.total;
            len -= f.total;
        }
        if (c->state == CLOSED) return;
    }
    c->in.len = 0;
    if (len) buffer_add(&c->in, data, len);
    if (len == READ_SIZE) drop(c, "frame larger than the generator reads");
}

static int port_of(const Conn *c) { return c->group->port ? c->group->port : settings.port; }

void on_writable(Conn *c) {
    if (c->state == OPENING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            drop(c, strerror(error));
            return;
        }
        c->state = UPGRADING;
        Buffer request = {0};
        buffer_add(&request, "GET ", 4);
        render(&request, c->group->path, c, c->channel, NULL);
        char rest[256];
        int n = snprintf(rest, sizeof rest,
                         " HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n",
                         settings.host, port_of(c));
        buffer_add(&request, rest, (size_t)n);
        if (c->group->headers) render(&request, c->group->headers, c, c->channel, NULL);
        buffer_add(&request, "\r\n", 2);
        buffer_add(&c->out, request.data, request.len);
        free(request.data);
    }
    flush(c);
    if (c->state == UPGRADING && !c->out.len && c->want_write) {
        c->want_write = 0;
        watch(c, EPOLL_CTL_MOD);
    }
}

void open_connection(Conn *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(c))};
    inet_pton(AF_INET, settings.host, &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = OPENING;
    c->want_write = 1;
    pool.opening++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        drop(c, strerror(errno));
        return;
    }
    watch(c, EPOLL_CTL_ADD);
}

void close_connections(void) {
    for (int i = 0; i < pool.opened; i++) {
        Conn *c = &pool.conns[i];
        if (c->state != READY && c->state != GREETING) continue;
        ws_append(&c->out, WS_CLOSE, "\x03\xe8", 2, 1);
        flush(c);
    }
    uint64_t deadline = now() + 3000000000u;
    while (pool.ready > 0 && now() < deadline) turn(50);
}
