/* Reads the scenario, and makes the connections that it describes. */
#include "load.h"

Settings settings = {
    .host = "127.0.0.1",
    .tokens = 8,
    .parallel = 64,
    .rate = 100,
    .warmup = 0.5,
    .seconds = 2,
    .timeout = 60,
    .stall = 2,
};
Pool pool = {.channel_count = 1};

static char *unescape(const char *text) {
    char *out = must(malloc(strlen(text) + 1)), *to = out;
    for (; *text; text++) {
        if (*text == '\\' && (text[1] == 'r' || text[1] == 'n' || text[1] == '\\')) {
            text++;
            *to++ = *text == 'r' ? '\r' : *text == 'n' ? '\n' : '\\';
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
    return out;
}

static Mode mode_named(const char *name) {
    static const char *const names[] = {"closed", "rate", "collect", "idle"}; /* in the order of Mode */
    for (int mode = CLOSED_LOOP; mode <= IDLE; mode++)
        if (!strcmp(name, names[mode])) return (Mode)mode;
    refuse("unknown mode %s", name);
}

static void add_server(int pid) {
    if (settings.server_pid_count == MAX_SERVERS) refuse("more than %d server processes", MAX_SERVERS);
    settings.server_pids[settings.server_pid_count++] = pid;
}

static void add_hello(Group *g, char *text) {
    if (g->hellos == MAX_HELLOS) refuse("more than %d greetings in group %s", MAX_HELLOS, g->name);
    g->hello[g->hellos++].text = text;
}

/* The answer to the last greeting. */
static void expect_answer(Group *g, char *answer) {
    if (!g->hellos) refuse("group %s expects an answer before its first greeting", g->name);
    g->hello[g->hellos - 1].expect = answer;
}

void read_scenario(void) {
    static char line[65536];
    Group *g = NULL;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!line[0] || line[0] == '#') continue;
        char *value = strchr(line, ' ');
        if (value) *value++ = 0;
        else value = line + strlen(line);
        const char *k = line;
#define IS(name) (!strcmp(k, name))
        if (IS("host")) snprintf(settings.host, sizeof settings.host, "%s", value);
        else if (IS("port") && !g) settings.port = atoi(value);
        else if (IS("announce")) settings.announce = atoi(value);
        else if (IS("server_pid")) add_server(atoi(value));
        else if (IS("mode")) settings.mode = mode_named(value);
        else if (IS("complete")) settings.complete_ack = !strcmp(value, "ack");
        else if (IS("tokens")) settings.tokens = atoi(value);
        else if (IS("parallel")) settings.parallel = atoi(value);
        else if (IS("rate")) settings.rate = atof(value);
        else if (IS("warmup")) settings.warmup = atof(value);
        else if (IS("seconds")) settings.seconds = atof(value);
        else if (IS("timeout")) settings.timeout = atof(value);
        else if (IS("stall")) settings.stall = atof(value);
        else if (IS("frame")) settings.frame_size = atoi(value);
        else if (IS("limit")) settings.limit = strtoull(value, NULL, 10);
        else if (IS("need")) settings.need = strtoull(value, NULL, 10);
        else if (IS("errmark")) settings.errmark = unescape(value);
        else if (IS("group")) {
            if (settings.group_count == MAX_GROUPS) refuse("more than %d groups", MAX_GROUPS);
            g = &settings.groups[settings.group_count++];
            snprintf(g->name, sizeof g->name, "%s", value);
            g->channels = 1;
        } else if (!g) {
            refuse("unknown key %s", k);
        } else if (IS("port")) g->port = atoi(value);
        else if (IS("count")) g->count = atoi(value);
        else if (IS("path")) g->path = unescape(value);
        else if (IS("headers")) g->headers = unescape(value);
        else if (IS("first")) g->first = unescape(value);
        else if (IS("hello")) add_hello(g, unescape(value));
        else if (IS("expect")) expect_answer(g, unescape(value));
        else if (IS("channels")) g->channels = atoi(value);
        else if (IS("base")) g->base = atoi(value);
        else if (IS("subscriber")) g->subscriber = atoi(value);
        else if (IS("hold")) g->hold = atoi(value);
        else if (IS("carry")) g->carry = atoi(value);
        else if (IS("publish")) g->publish = unescape(value);
        else if (IS("alt")) g->alt = unescape(value);
        else if (IS("altevery")) g->altevery = atoi(value);
        else if (IS("ackmark")) g->ackmark = unescape(value);
        else if (IS("ackall")) g->ackall = atoi(value);
        else if (IS("ping")) g->pingmark = unescape(value);
        else if (IS("pong")) g->pongtext = unescape(value);
        else {
            refuse("unknown key %s", k);
        }
#undef IS
    }
    if (settings.frame_size > MAX_FRAME) settings.frame_size = MAX_FRAME;
}

void build_connections(void) {
    for (int i = 0; i < settings.group_count; i++) pool.conn_count += settings.groups[i].count;
    pool.conns = must(calloc((size_t)pool.conn_count, sizeof *pool.conns));
    pool.publishers = must(calloc((size_t)pool.conn_count + 1, sizeof *pool.publishers));
    int n = 0;
    for (int i = 0; i < settings.group_count; i++) {
        Group *g = &settings.groups[i];
        for (int j = 0; j < g->count; j++, n++) {
            Conn *c = &pool.conns[n];
            c->group = g;
            c->index = j;
            c->channel = g->base + j % g->channels;
            c->fd = -1;
            if (c->channel >= MAX_CHANNELS) refuse("more than %d channels", MAX_CHANNELS);
            if (g->subscriber) {
                pool.members[c->channel]++;
                if (c->channel >= pool.channel_count) pool.channel_count = c->channel + 1;
            }
            if (g->publish) {
                c->fifo = must(calloc(MESSAGES, sizeof *c->fifo));
                c->publisher = pool.publisher_count;
                pool.publishers[pool.publisher_count++] = n;
            }
        }
    }
    if (settings.tokens > (int)MESSAGES / 2) settings.tokens = MESSAGES / 2;
}
