/* bench-echo: an MCP server so cheap that what is measured is the gateway in front of it.
 *
 *   bench-echo stdio [--cpu N]
 *   bench-echo http PORT [--cpu N] [--sse]
 *
 * Tools: echo {"text": string} answers the text exactly as it was spelled; blob {"n": integer}
 * answers n times "x". Names are checked: a gateway that does not translate them gets an error.
 * HTTP: POST /mcp with sessions that are checked and that DELETE ends, GET /mcp is 405 (there is
 * nothing to push), GET /sessions tells how many sessions are open. One thread, epoll, requests
 * answered in the order they come. It pins itself, because a gateway starts its children on its
 * own CPU and the benchmark wants them on the load generator's.
 */
#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SESSIONS (1u << 20)      /* ids are numbers below this and not reused: one run opens some ten thousand */
#define BLOB_LIMIT (64u << 20)
#define PIPE_BYTES (1 << 20)         /* the most an unprivileged process may ask for */
#define STDIO_READ (256u << 10)
#define SOCKET_READ (64u << 10)
#define EVENTS 256

enum answer { NOTHING, ANSWER, GREETING };

static const char TOOLS[] =
    "{\"tools\":[{\"name\":\"echo\",\"description\":\"Answers the text it is given\",\"inputSchema\":"
    "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"]}},"
    "{\"name\":\"blob\",\"description\":\"Answers n bytes\",\"inputSchema\":"
    "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}}]}";
static const char *const VERSIONS[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

static struct buffer filler; /* as many x as the largest blob so far */

static void call_tool(struct span params, struct buffer *out) {
  struct span name = json_member(params, "name"), arguments = json_member(params, "arguments");
  if (json_is_string(name, "echo")) {
    struct span text = json_member(arguments, "text");
    buffer_text(out, ",\"result\":{\"content\":[{\"type\":\"text\",\"text\":");
    if (text.n && text.p[0] == '"') buffer_add(out, text.p, text.n);
    else buffer_text(out, "\"\"");
    buffer_text(out, "}],\"isError\":false}}");
  } else if (json_is_string(name, "blob")) {
    struct span count = json_member(arguments, "n");
    size_t n = count.p ? strtoull(count.p, NULL, 10) : 0;
    if (n > BLOB_LIMIT) n = BLOB_LIMIT;
    if (n > filler.n) {
      buffer_reserve(&filler, n - filler.n);
      memset(filler.p, 'x', n);
      filler.n = n;
    }
    buffer_text(out, ",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"");
    buffer_add(out, filler.p ? filler.p : "", n);
    buffer_text(out, "\"}],\"isError\":false}}");
  } else {
    buffer_text(out, ",\"error\":{\"code\":-32602,\"message\":\"Unknown tool\"}}");
  }
}

/* Appends the answer to one JSON-RPC message, without a line end. */
static enum answer answer_message(struct span text, struct buffer *out) {
  struct span method = json_member(text, "method"), id = json_member(text, "id");
  if (!method.p || !id.p) return NOTHING; /* a notification, or an answer to something never asked */
  struct span params = json_member(text, "params");
  buffer_text(out, "{\"jsonrpc\":\"2.0\",\"id\":");
  buffer_add(out, id.p, id.n);
  if (json_is_string(method, "tools/call")) { call_tool(params, out); return ANSWER; }
  if (json_is_string(method, "tools/list")) {
    buffer_text(out, ",\"result\":");
    buffer_text(out, TOOLS);
    buffer_text(out, "}");
    return ANSWER;
  }
  if (json_is_string(method, "initialize")) {
    struct span asked = json_member(params, "protocolVersion");
    const char *version = VERSIONS[0];
    for (size_t i = 0; i < sizeof VERSIONS / sizeof *VERSIONS; i++)
      if (json_is_string(asked, VERSIONS[i])) version = VERSIONS[i];
    buffer_format(out, ",\"result\":{\"protocolVersion\":\"%s\",\"capabilities\":{\"tools\":{}},"
                       "\"serverInfo\":{\"name\":\"bench-echo\",\"version\":\"1\"}}}", version);
    return GREETING;
  }
  if (json_is_string(method, "ping")) buffer_text(out, ",\"result\":{}}");
  else buffer_text(out, ",\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}");
  return ANSWER;
}

/* ---- stdio ---- */

static int write_all(int fd, const char *p, size_t n) {
  while (n) {
    ssize_t k = write(fd, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return -1;
    p += k;
    n -= (size_t)k;
  }
  return 0;
}

static int serve_stdio(void) {
  struct buffer in = {0}, out = {0};
  size_t searched = 0;
  /* Refused when they are not pipes: then the default has to do. */
  fcntl(0, F_SETPIPE_SZ, PIPE_BYTES);
  fcntl(1, F_SETPIPE_SZ, PIPE_BYTES);
  for (;;) {
    buffer_reserve(&in, STDIO_READ);
    ssize_t k = read(0, in.p + in.n, in.cap - in.n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return 0;
    in.n += (size_t)k;
    size_t start = 0;
    char *line_end;
    while (searched < in.n && (line_end = memchr(in.p + searched, '\n', in.n - searched))) {
      struct span line = {in.p + start, (size_t)(line_end - in.p) - start};
      if (answer_message(line, &out)) buffer_text(&out, "\n");
      start = searched = (size_t)(line_end - in.p) + 1;
    }
    memmove(in.p, in.p + start, in.n - start);
    in.n -= start;
    searched = in.n;
    if (!in.n) buffer_clear(&in);
    if (write_all(1, out.p, out.n)) return 0;
    buffer_clear(&out);
  }
}

/* ---- Streamable HTTP ---- */

struct connection {
  int fd, wants_write, dead;
  struct message request;
  struct buffer out;
  size_t sent;
};

static int poller, use_sse;
static unsigned char open_sessions[MAX_SESSIONS / 8];
static uint32_t next_session = 1, session_count;

static void watch(struct connection *c, int operation) {
  struct epoll_event e = {.events = EPOLLIN | (c->wants_write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, operation, c->fd, &e);
}

static void send_pending(struct connection *c) {
  while (c->sent < c->out.n) {
    ssize_t k = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0 && errno == EAGAIN) {
      if (!c->wants_write) { c->wants_write = 1; watch(c, EPOLL_CTL_MOD); }
      return;
    }
    if (k < 0) { c->dead = 1; return; }
    c->sent += (size_t)k;
  }
  buffer_clear(&c->out);
  c->sent = 0;
  if (c->wants_write) { c->wants_write = 0; watch(c, EPOLL_CTL_MOD); }
}

static void respond(struct connection *c, const char *status, const char *headers, struct span body) {
  buffer_format(&c->out, "HTTP/1.1 %s\r\n%scontent-length: %zu\r\n\r\n", status, headers, body.n);
  buffer_add(&c->out, body.p ? body.p : "", body.n);
}

static void respond_text(struct connection *c, const char *status, const char *text) {
  struct span body = {text, strlen(text)};
  respond(c, status, "content-type: text/plain\r\n", body);
}

/* The number of the session a request belongs to; 0: it names none; UINT32_MAX: one that is not open. */
static uint32_t session_of(const struct message *m) {
  struct span value = message_header(m, "mcp-session-id");
  if (!value.p) return 0;
  unsigned long n = value.n > 5 && !memcmp(value.p, "echo-", 5) ? strtoul(value.p + 5, NULL, 16) : 0;
  if (!n || n >= next_session || !(open_sessions[n / 8] & 1u << n % 8)) return UINT32_MAX;
  return (uint32_t)n;
}

static void respond_post(struct connection *c) {
  static struct buffer text;
  char headers[128] = "content-type: application/json\r\n";
  uint32_t session = session_of(&c->request);
  buffer_clear(&text);
  enum answer kind = answer_message(message_body(&c->request), &text);
  if (kind == GREETING && next_session < MAX_SESSIONS) {
    uint32_t n = next_session++;
    open_sessions[n / 8] |= (unsigned char)(1u << n % 8);
    session_count++;
    snprintf(headers, sizeof headers, "content-type: application/json\r\nmcp-session-id: echo-%08x\r\n", n);
  } else if (session == 0) { respond_text(c, "400 Bad Request", "no session id"); return; }
  else if (session == UINT32_MAX) { respond_text(c, "404 Not Found", "no such session"); return; }
  struct span body = {text.p, text.n};
  if (kind == NOTHING) { body.n = 0; respond(c, "202 Accepted", "", body); return; }
  if (!use_sse || kind == GREETING) { respond(c, "200 OK", headers, body); return; }
  static const char before[] = "event: message\ndata: ", after[] = "\n\n";
  buffer_text(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
                       "transfer-encoding: chunked\r\n\r\n");
  buffer_format(&c->out, "%zx\r\n%s", sizeof before - 1 + text.n + sizeof after - 1, before);
  buffer_add(&c->out, text.p, text.n);
  buffer_format(&c->out, "%s\r\n0\r\n\r\n", after);
}

static void respond_request(struct connection *c) {
  struct span line = {c->request.in.p, c->request.head};
  if (span_has_prefix(line, "POST /mcp ")) respond_post(c);
  else if (span_has_prefix(line, "DELETE /mcp ")) {
    uint32_t session = session_of(&c->request);
    if (!session || session == UINT32_MAX) { respond_text(c, "404 Not Found", "no such session"); return; }
    open_sessions[session / 8] &= (unsigned char)~(1u << session % 8);
    session_count--;
    respond_text(c, "200 OK", "");
  } else if (span_has_prefix(line, "GET /sessions ")) {
    char text[16];
    snprintf(text, sizeof text, "%u", session_count);
    respond_text(c, "200 OK", text);
  } else if (span_has_prefix(line, "GET /mcp ")) respond_text(c, "405 Method Not Allowed", "no stream here");
  else respond_text(c, "404 Not Found", "no such path");
}

static void receive(struct connection *c) {
  struct message *m = &c->request;
  buffer_reserve(&m->in, m->left > SOCKET_READ ? m->left : SOCKET_READ);
  ssize_t k = recv(c->fd, m->in.p + m->in.n, m->in.cap - m->in.n - 1, 0);
  if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (k <= 0) { c->dead = 1; return; }
  m->in.n += (size_t)k;
  int state;
  while ((state = message_advance(m, 0)) == 1) {
    respond_request(c);
    message_next(m);
    if (!m->in.n) break;
  }
  if (state < 0) { c->dead = 1; return; }
  if (m->state == LENGTH && span_has_prefix(message_header(m, "expect"), "100-continue") && m->at == m->head)
    buffer_text(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
  send_pending(c);
}

static void accept_all(int listener) {
  int fd, on = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD);
  }
}

static void drop(struct connection *c) {
  close(c->fd);
  free(c->request.in.p);
  free(c->out.p);
  free(c);
}

static int serve_http(int port) {
  int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
    perror("bench-echo: cannot listen");
    return 1;
  }
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event events[EVENTS], e = {.events = EPOLLIN};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
  for (;;) {
    int n = epoll_wait(poller, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (!c) { accept_all(listener); continue; }
      if (events[i].events & EPOLLOUT) send_pending(c);
      if (!c->dead && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
      if (c->dead) drop(c);
    }
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  int port = 0, bad = 0;
  for (int i = 2; i < argc; i++) {
    if (!strcmp(argv[i], "--cpu") && i + 1 < argc) {
      cpu_set_t cpus;
      CPU_ZERO(&cpus);
      CPU_SET((size_t)atoi(argv[++i]), &cpus);
      sched_setaffinity(0, sizeof cpus, &cpus);
    } else if (!strcmp(argv[i], "--sse")) use_sse = 1;
    else if (argv[i][0] != '-') port = atoi(argv[i]);
    else bad = 1;
  }
  signal(SIGPIPE, SIG_IGN);
  if (!bad && !strcmp(mode, "stdio")) return serve_stdio();
  if (!bad && !strcmp(mode, "http") && port) return serve_http(port);
  fputs("usage: bench-echo stdio [--cpu N] | http PORT [--cpu N] [--sse]\n", stderr);
  return 2;
}
