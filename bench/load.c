/* bench-load: closed-loop load on an MCP server over Streamable HTTP. One process, one CPU, epoll.
 *
 *   bench-load [options] http://127.0.0.1:PORT/PATH
 *
 *     --connections N        clients at once (1); each has a connection and an MCP session of its own
 *     --tool NAME            what to call (echo)
 *     --argument-bytes N     length of the "text" argument (32), which has to come back as the result
 *     --result-bytes N       send {"n": N} instead and expect a text of N bytes
 *     --seconds S            how long to measure (1);   --warmup S  calls made before that (0.3)
 *     --gate                 after the warm-up, with nothing in flight, print READY and wait for a line on stdin
 *     --hold KIND            no measuring: open --sessions N, print READY, keep them until stdin ends;
 *                            KIND sessions: nothing but the session stays; connections: each keeps its
 *                            connection; streams: each keeps a GET stream
 *     --churn                no measuring: open --sessions N and end each by DELETE
 *     --calls N              with --hold and --churn: tool calls in each session (1)
 *     --version V            protocol version to offer (2025-11-25); from 2026-07-28 on there are no sessions
 *     --capabilities JSON    what such a client declares ({})
 *     --patience S           give up when nothing is answered for so long (20)
 *     --cpu N                run on this CPU
 *
 * A client sends initialize, notifications/initialized, then tools/call after tools/call, the next
 * one when the answer to the last is complete. Every argument starts with a token of its own and
 * every answer is checked: status, id, no error, the text's exact length, the token. A session of
 * which one call went wrong goes on; a hundred errors end the run.
 *
 * The last line printed is a JSON object. Latency is taken from the first byte sent to the last
 * byte received. Throughput is all measured calls by the time until the last of them was answered.
 */
#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_ERRORS 100
#define MAX_SAMPLES (16u << 20)     /* 64 MiB of latencies: a minute at the fastest rate seen */
#define TOKEN_BYTES 18              /* eight digits of the client, a dash, eight of the call, a dash */
#define SMALL_READ (64u << 10)
#define LARGE_READ (1u << 20)
#define EVENTS 256
#define MAX_DESCRIPTORS 65536
#define SECOND 1000000000ull

enum step { INITIALIZE, INITIALIZED, CALL, STREAM, DELETE, RESTING };
enum mode { MEASURE, HOLD, CHURN };
enum keep { KEEP_SESSIONS, KEEP_CONNECTIONS, KEEP_STREAMS };
enum phase { WARMING, SETTLING, MEASURING, ENDING };

struct client {
  int fd, wants_write, waiting;     /* waiting: a request is out */
  unsigned number;
  enum step step;
  uint32_t calls;                   /* made in this session; also the JSON-RPC id of the last */
  uint64_t started;
  struct buffer out;                /* head and first part of the body; then `middle` bytes of filler, then the tail */
  size_t sent, middle;
  const char *tail;
  struct message answer;
  char session[2048], version[32];
};

static const char *host = "127.0.0.1", *tool = "echo", *offered = "2025-11-25", *capabilities = "{}";
static char path[512] = "/mcp";
static int port, connections = 1, gated;
static long argument_bytes = 32, result_bytes = -1;
static double seconds = 1, warmup = 0.3, patience = 20;
static enum mode mode = MEASURE;
static enum keep keep = KEEP_SESSIONS;
static uint32_t sessions = 1000, calls_each = 1;

static int poller, stopping;
static enum phase phase = WARMING;
static struct sockaddr_in address;
static struct client *clients;
static int client_count;
static char *filler;
static uint32_t *samples;           /* units of 100 ns, which lets four bytes hold seven minutes */
static size_t sample_count, sample_room;
static uint64_t errors, measured, bytes_in, last_answer, reconnects;
static uint32_t in_use, ready, opened, finished, deleted, refused_deletes, streams;
static char first_error[256];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, struct span about) {
  if (++errors >= MAX_ERRORS) stopping = 1;
  if (first_error[0]) return;
  int n = about.n > 160 ? 160 : (int)about.n;
  snprintf(first_error, sizeof first_error, "%s: %.*s", what, n, about.p ? about.p : "");
  for (char *p = first_error; *p; p++)
    if (*p == '"' || *p == '\\' || (unsigned char)*p < 32 || (unsigned char)*p > 126) *p = '\'';
}

static void watch(struct client *c, int operation) {
  struct epoll_event e = {.events = EPOLLIN | (c->wants_write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, operation, c->fd, &e);
}

static void hang_up(struct client *c) {
  if (c->fd < 0) return;
  close(c->fd);
  c->fd = -1;
  c->wants_write = 0;
}

static int dial(struct client *c) {
  int on = 1;
  hang_up(c);
  c->answer.in.n = c->answer.at = 0;
  c->answer.state = HEAD;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) {
    struct span why = {strerror(errno), strlen(strerror(errno))};
    fail("cannot connect", why);
    stopping = 1;
    hang_up(c);
    return -1;
  }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  watch(c, EPOLL_CTL_ADD);
  return 0;
}

/* ---- sending ---- */

static void send_request(struct client *c) {
  size_t tail = c->tail ? strlen(c->tail) : 0, total = c->out.n + c->middle + tail;
  while (c->sent < total) {
    struct iovec parts[3] = {{c->out.p, c->out.n}, {filler, c->middle}, {(char *)c->tail, tail}};
    size_t skip = c->sent;
    for (int i = 0; i < 3; i++) {
      size_t k = skip < parts[i].iov_len ? skip : parts[i].iov_len;
      parts[i].iov_base = (char *)parts[i].iov_base + k;
      parts[i].iov_len -= k;
      skip -= k;
    }
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    ssize_t k = sendmsg(c->fd, &message, MSG_NOSIGNAL);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0 && errno == EAGAIN) {
      if (!c->wants_write) { c->wants_write = 1; watch(c, EPOLL_CTL_MOD); }
      return;
    }
    if (k < 0) return; /* the peer is gone; reading will tell */
    c->sent += (size_t)k;
  }
  if (c->wants_write) { c->wants_write = 0; watch(c, EPOLL_CTL_MOD); }
}

/* From 2026-07-28 on nothing is opened: each request says it all by itself. */
static int modern(void) { return strcmp(offered, "2026") > 0; }

/* What ends a call's params, after `arguments` was opened and the last member of it written. */
static const char *call_tail(const char *quote) {
  static char tail[1024];
  if (modern())
    snprintf(tail, sizeof tail,
             "%s},\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"%s\","
             "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"bench-load\",\"version\":\"1\"},"
             "\"io.modelcontextprotocol/clientCapabilities\":%s}}}",
             quote, offered, capabilities);
  else
    snprintf(tail, sizeof tail, "%s}}}", quote);
  return tail;
}

static void begin(struct client *c, const char *method) {
  c->out.n = c->sent = c->middle = 0;
  c->tail = NULL;
  buffer_format(&c->out, "%s %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: bench-load\r\n", method, path, host, port);
  if (c->session[0]) buffer_format(&c->out, "Mcp-Session-Id: %s\r\n", c->session);
  if (c->version[0]) buffer_format(&c->out, "MCP-Protocol-Version: %s\r\n", c->version);
  if (modern()) buffer_format(&c->out, "Mcp-Method: tools/call\r\nMcp-Name: %s\r\n", tool);
}

static void finish(struct client *c) {
  if (c->fd < 0 && dial(c)) return;
  c->waiting = 1;
  c->started = now();
  send_request(c);
}

static void post(struct client *c, const struct buffer *body, size_t middle, const char *tail) {
  begin(c, "POST");
  buffer_format(&c->out,
                "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
                "Content-Length: %zu\r\n\r\n",
                body->n + middle + (tail ? strlen(tail) : 0));
  buffer_add(&c->out, body->p, body->n);
  c->middle = middle;
  c->tail = tail;
  finish(c);
}

/* Sends what the client's step says. */
static void request(struct client *c) {
  static struct buffer body;
  body.n = 0;
  switch (c->step) {
    case INITIALIZE:
      opened++;
      c->session[0] = c->version[0] = 0;
      c->calls = 0;
      if (modern()) {
        snprintf(c->version, sizeof c->version, "%s", offered);
        ready++;
        c->step = CALL;
        request(c);
        break;
      }
      buffer_format(&body,
                    "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"%s\","
                    "\"capabilities\":{},\"clientInfo\":{\"name\":\"bench-load\",\"version\":\"1\"}}}", offered);
      post(c, &body, 0, NULL);
      break;
    case INITIALIZED:
      buffer_text(&body, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
      post(c, &body, 0, NULL);
      break;
    case CALL:
      c->calls++;
      buffer_format(&body,
                    "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"tools/call\",\"params\":{\"name\":\"%s\",\"arguments\":{",
                    c->calls, tool);
      if (result_bytes >= 0) {
        buffer_format(&body, "\"n\":%ld%s", result_bytes, call_tail(""));
        post(c, &body, 0, NULL);
      } else {
        buffer_format(&body, "\"text\":\"%08u-%08u-", c->number, c->calls);
        post(c, &body, (size_t)argument_bytes - TOKEN_BYTES, call_tail("\""));
      }
      break;
    case STREAM:
      begin(c, "GET");
      buffer_text(&c->out, "Accept: text/event-stream\r\n\r\n");
      finish(c);
      break;
    case DELETE:
      begin(c, "DELETE");
      buffer_text(&c->out, "\r\n");
      finish(c);
      break;
    case RESTING:
      break;
  }
}

/* ---- judging answers ---- */

/* The JSON-RPC message in the body that carries the id: the body itself, or the data of one of its events. */
static struct span find_answer(struct client *c, uint32_t id) {
  static struct buffer joined;
  struct span body = message_body(&c->answer), none = {NULL, 0};
  char text[16];
  snprintf(text, sizeof text, "%u", id);
  if (!span_has_prefix(message_header(&c->answer, "content-type"), "text/event-stream"))
    return json_is(json_member(body, "id"), text) ? body : none;
  const char *p = body.p, *end = body.p + body.n;
  struct span data = none;
  while (p < end) {
    const char *line_end = memchr(p, '\n', (size_t)(end - p));
    if (!line_end) line_end = end;
    struct span line = {p, (size_t)(line_end - p)};
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    p = line_end + 1;
    if (span_has_prefix(line, "data:")) {
      size_t skip = line.n > 5 && line.p[5] == ' ' ? 6 : 5;
      struct span more = {line.p + skip, line.n - skip};
      if (!data.p) data = more;
      else { /* an event of several data lines, which is rare enough to copy */
        if (data.p != joined.p) { joined.n = 0; buffer_add(&joined, data.p, data.n); }
        buffer_text(&joined, "\n");
        buffer_add(&joined, more.p, more.n);
        data.p = joined.p;
        data.n = joined.n;
      }
    }
    if ((!line.n || p >= end) && data.p) {
      if (json_is(json_member(data, "id"), text) && !json_member(data, "method").p) return data;
      data = none;
    }
  }
  return none;
}

static void judge_call(struct client *c) {
  struct span body = message_body(&c->answer);
  if (c->answer.status != 200) { fail("status", body); return; }
  struct span answer = find_answer(c, c->calls);
  if (!answer.p) { fail("no answer with our id", body); return; }
  struct span result = json_member(answer, "result");
  if (!result.p || json_is(json_member(result, "isError"), "true")) { fail("answered with an error", answer); return; }
  struct span content = json_member(result, "content");
  const char *end = content.p + content.n;
  struct span first = {NULL, 0};
  if (content.p && *content.p == '[') {
    first.p = json_space(content.p + 1, end);
    first.n = (size_t)(end - first.p);
  }
  struct span text = json_member(first, "text");
  size_t expected = (size_t)(result_bytes >= 0 ? result_bytes : argument_bytes);
  if (text.n != expected + 2) { fail("wrong length of the result", answer); return; }
  char token[TOKEN_BYTES + 8];
  snprintf(token, sizeof token, "%08u-%08u-", c->number, c->calls);
  if (result_bytes < 0 && memcmp(text.p + 1, token, TOKEN_BYTES)) fail("somebody else's result", answer);
}

static int judge_greeting(struct client *c) {
  struct span body = message_body(&c->answer);
  if (c->answer.status != 200) { fail("initialize: status", body); return -1; }
  struct span answer = find_answer(c, 0), version = json_member(json_member(answer, "result"), "protocolVersion");
  if (version.n < 3 || version.n > sizeof c->version) { fail("initialize: no version", body); return -1; }
  memcpy(c->version, version.p + 1, version.n - 2);
  c->version[version.n - 2] = 0;
  struct span id = message_header(&c->answer, "mcp-session-id");
  if (id.n >= sizeof c->session) { fail("initialize: the session id is too long", id); return -1; }
  memcpy(c->session, id.p ? id.p : "", id.n);
  c->session[id.n] = 0;
  return 0;
}

static void sample(uint64_t took) {
  measured++;
  if (sample_count == MAX_SAMPLES) return;
  if (sample_count == sample_room) {
    sample_room = sample_room ? sample_room * 2 : 1u << 16;
    samples = realloc(samples, sample_room * sizeof *samples);
    if (!samples) abort();
  }
  uint64_t units = took / 100;
  samples[sample_count++] = units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

/* ---- the life of a client ---- */

/* In the modes that do not measure: what comes after a session has made its calls. */
static enum step after_calls(struct client *c) {
  if (c->calls < calls_each) return CALL;
  if (mode == CHURN) return DELETE;
  return keep == KEEP_STREAMS ? STREAM : RESTING;
}

static void start_client(void);

/* The session is as it shall be: go on with the next one, on this connection or on a new one. */
static void end_session(struct client *c) {
  finished++;
  c->step = RESTING;
  if (opened >= sessions) {
    if (keep == KEEP_SESSIONS || mode == CHURN) hang_up(c);
  } else if (mode == CHURN || keep == KEEP_SESSIONS) {
    c->step = INITIALIZE;
    request(c);
  } else start_client();
}

/* An answer is complete: judge it and take the next step. */
static void advance(struct client *c) {
  uint64_t t = now();
  last_answer = t;
  c->waiting = 0;
  switch (c->step) {
    case INITIALIZE:
      if (judge_greeting(c)) { stopping = 1; return; }
      c->step = INITIALIZED;
      break;
    case INITIALIZED:
      if (c->answer.status / 100 != 2) { fail("initialized: status", message_body(&c->answer)); stopping = 1; return; }
      ready++;
      c->step = mode == MEASURE ? CALL : after_calls(c);
      break;
    case CALL:
      judge_call(c);
      if (mode != MEASURE) c->step = after_calls(c);
      else if (phase >= MEASURING) sample(t - c->started);
      break;
    case STREAM: /* only a refusal ends; 405 is the right of a server that has nothing to push */
      if (c->answer.status != 405) fail("GET stream", message_body(&c->answer));
      c->step = RESTING;
      break;
    case DELETE:
      if (c->answer.status / 100 == 2) deleted++;
      else refused_deletes++;
      c->step = RESTING;
      break;
    case RESTING:
      break;
  }
  int closes = c->answer.closes;
  message_next(&c->answer);
  if (closes) { reconnects++; hang_up(c); }
  if (stopping) return;
  if (mode == MEASURE && c->step == CALL && (phase == SETTLING || phase == ENDING)) { in_use--; return; }
  if (c->step == RESTING) end_session(c);
  else request(c);
}

static void receive(struct client *c) {
  struct message *m = &c->answer;
  buffer_reserve(&m->in, m->state != HEAD && m->left > SMALL_READ ? LARGE_READ : SMALL_READ);
  ssize_t k = recv(c->fd, m->in.p + m->in.n, m->in.cap - m->in.n - 1, 0);
  if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (k <= 0) {
    if (message_close(m)) { advance(c); return; }
    struct span seen = {m->in.p, m->in.n};
    hang_up(c);
    if (!c->waiting) return; /* an idle connection may be closed; the next request dials again */
    fail("connection closed before the answer", seen);
    stopping = 1;
    return;
  }
  m->in.n += (size_t)k;
  bytes_in += (uint64_t)k;
  int state = message_advance(m, 1);
  if (c->step == STREAM && m->state != HEAD && m->status == 200) {
    /* The stream is open; whatever comes on it is of no interest. */
    buffer_clear(&m->in);
    m->at = m->body_end = m->head = 0;
    m->state = UNTIL_CLOSE;
    if (c->waiting) { c->waiting = 0; streams++; last_answer = now(); end_session(c); c->step = STREAM; }
    return;
  }
  if (state < 0 || (state == 0 && !c->waiting && c->step != STREAM)) {
    struct span seen = {m->in.p, m->in.n};
    fail("not an HTTP answer", seen);
    stopping = 1;
    return;
  }
  if (state == 1) advance(c);
}

static void start_client(void) {
  struct client *c = &clients[client_count];
  c->fd = -1;
  c->number = (unsigned)client_count++;
  c->step = INITIALIZE;
  in_use++;
  request(c);
}

static void poll_once(int milliseconds) {
  struct epoll_event events[EVENTS];
  int n = epoll_wait(poller, events, EVENTS, milliseconds);
  for (int i = 0; i < n && !stopping; i++) {
    struct client *c = events[i].data.ptr;
    if (c->fd >= 0 && events[i].events & EPOLLOUT) send_request(c);
    if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
  }
  if (!stopping && now() - last_answer > (uint64_t)(patience * SECOND)) {
    struct span nothing = {NULL, 0};
    fail("no answer within --patience", nothing);
    stopping = 1;
  }
}

/* ---- runs ---- */

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double percentile(double q) {
  return sample_count ? samples[(size_t)(q * (double)(sample_count - 1) + 0.5)] / 10.0 : 0;
}

static void wait_for_line(void) {
  char c;
  puts("READY");
  fflush(stdout);
  while (read(0, &c, 1) == 1 && c != '\n') {}
}

static int run_measurement(void) {
  for (int i = 0; i < connections && !stopping; i++) start_client();
  while (!stopping && ready < (uint32_t)connections) poll_once(10);
  uint64_t end = now() + (uint64_t)(warmup * SECOND);
  while (!stopping && now() < end) poll_once(10);
  phase = SETTLING;
  while (!stopping && in_use) poll_once(10);
  if (gated && !stopping) wait_for_line();
  phase = MEASURING;
  bytes_in = 0;
  uint64_t start = last_answer = now();
  end = start + (uint64_t)(seconds * SECOND);
  for (int i = 0; i < client_count && !stopping; i++) { in_use++; request(&clients[i]); }
  while (!stopping && now() < end) poll_once(10);
  phase = ENDING;
  while (!stopping && in_use) poll_once(10);
  double elapsed = (double)(last_answer - start) / SECOND;
  if (sample_count) qsort(samples, sample_count, sizeof *samples, by_value);
  printf("{\"calls\":%llu,\"req_s\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
         "\"seconds\":%.3f,\"mib_s_in\":%.1f,\"reconnects\":%llu,\"version\":\"%s\",\"errors\":%llu,\"first_error\":\"%s\"}\n",
         (unsigned long long)measured, elapsed > 0 ? (double)measured / elapsed : 0, percentile(.5), percentile(.9),
         percentile(.99), percentile(1), elapsed, elapsed > 0 ? (double)bytes_in / elapsed / (1 << 20) : 0,
         (unsigned long long)reconnects, client_count ? clients[0].version : "", (unsigned long long)errors, first_error);
  return errors > 0;
}

static int run_sessions(void) {
  uint64_t start = now();
  for (int i = 0; i < connections && (uint32_t)i < sessions && !stopping; i++) start_client();
  while (!stopping && finished < sessions) poll_once(10);
  double elapsed = (double)(now() - start) / SECOND;
  if (mode == HOLD) {
    puts("READY");
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN};
    char c[64];
    /* Regular files and /dev/null cannot be polled, and have ended before they began. */
    if (!epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e))
      for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(poller, events, EVENTS, -1), ended = 0;
        for (int i = 0; i < n; i++) {
          struct client *client = events[i].data.ptr;
          if (!client) ended = read(0, c, sizeof c) <= 0;
          else if (client->fd >= 0) receive(client);
        }
        if (ended) break;
      }
  }
  printf("{\"sessions\":%u,\"seconds\":%.3f,\"deleted\":%u,\"refused_deletes\":%u,\"streams\":%u,"
         "\"errors\":%llu,\"first_error\":\"%s\"}\n",
         finished, elapsed, deleted, refused_deletes, streams, (unsigned long long)errors, first_error);
  return errors > 0;
}

static void usage(void) {
  fputs("usage: bench-load [options] http://127.0.0.1:PORT/PATH  (the options are at the head of load.c)\n", stderr);
  exit(2);
}

static void read_url(char *url) {
  if (strncmp(url, "http://", 7)) usage();
  host = url + 7;
  char *slash = strchr(host, '/'), *colon;
  if (slash) { snprintf(path, sizeof path, "%s", slash); *slash = 0; }
  if (!(colon = strchr(host, ':'))) usage();
  *colon = 0;
  port = atoi(colon + 1);
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)port);
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) usage();
}

int main(int argc, char **argv) {
  static const struct option options[] = {
      {"connections", 1, 0, 'c'}, {"tool", 1, 0, 't'}, {"argument-bytes", 1, 0, 'a'}, {"result-bytes", 1, 0, 'r'},
      {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'}, {"gate", 0, 0, 'g'}, {"hold", 1, 0, 'h'}, {"churn", 0, 0, 'u'},
      {"sessions", 1, 0, 'n'}, {"calls", 1, 0, 'k'}, {"version", 1, 0, 'v'}, {"capabilities", 1, 0, 'b'}, {"patience", 1, 0, 'p'},
      {"cpu", 1, 0, 'C'}, {0, 0, 0, 0}};
  for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (o) {
      case 'c': connections = atoi(optarg); break;
      case 't': tool = optarg; break;
      case 'a': argument_bytes = atol(optarg); break;
      case 'r': result_bytes = atol(optarg); break;
      case 's': seconds = atof(optarg); break;
      case 'w': warmup = atof(optarg); break;
      case 'g': gated = 1; break;
      case 'h':
        mode = HOLD;
        keep = !strcmp(optarg, "streams") ? KEEP_STREAMS : !strcmp(optarg, "connections") ? KEEP_CONNECTIONS : KEEP_SESSIONS;
        break;
      case 'u': mode = CHURN; break;
      case 'n': sessions = (uint32_t)atoi(optarg); break;
      case 'k': calls_each = (uint32_t)atoi(optarg); break;
      case 'v': offered = optarg; break;
      case 'b': capabilities = optarg; break;
      case 'p': patience = atof(optarg); break;
      case 'C': {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET((size_t)atoi(optarg), &cpus);
        sched_setaffinity(0, sizeof cpus, &cpus);
        break;
      }
      default: usage();
    }
  if (optind != argc - 1 || connections < 1 || argument_bytes < TOKEN_BYTES) usage();
  read_url(argv[optind]);
  signal(SIGPIPE, SIG_IGN);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max < MAX_DESCRIPTORS ? limit.rlim_max : MAX_DESCRIPTORS;
  setrlimit(RLIMIT_NOFILE, &limit);
  size_t room = mode == MEASURE || (uint32_t)connections > sessions ? (size_t)connections : sessions + (size_t)connections;
  clients = calloc(room, sizeof *clients);
  filler = malloc((size_t)argument_bytes);
  if (!clients || !filler) abort();
  memset(filler, 'a', (size_t)argument_bytes);
  poller = epoll_create1(EPOLL_CLOEXEC);
  last_answer = now();
  return mode == MEASURE ? run_measurement() : run_sessions();
}
