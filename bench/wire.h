/* What the load generator and the echo backend share: buffers, a JSON scanner, HTTP/1.1 framing.
 *
 * Data goes bytes -> struct message (one HTTP head and its body, decoded in place) -> struct span
 * (a piece of JSON inside the body). Nothing here does I/O and nothing allocates per message once
 * the buffers have grown. The peers are our own programs on loopback, so malformed input is an
 * error to report and not an attack to survive; sizes are bounded all the same.
 */
#ifndef MCPD_BENCH_WIRE_H
#define MCPD_BENCH_WIRE_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_LIMIT (64u << 10)      /* no gateway sends heads like this; a missing blank line must end somewhere */
#define BODY_LIMIT (256ull << 20)   /* 25 times the largest payload the benchmark uses */
#define SHRINK_ABOVE (4u << 20)     /* a connection at rest keeps no more than this */

struct span { const char *p; size_t n; };
struct buffer { char *p; size_t n, cap; };

/* Makes room for k more bytes and one terminator. */
static inline void buffer_reserve(struct buffer *b, size_t k) {
  if (b->n + k < b->cap) return;
  size_t cap = b->cap ? b->cap : 4096;
  while (cap <= b->n + k) cap *= 2;
  b->p = realloc(b->p, cap);
  if (!b->p) { fputs("out of memory\n", stderr); abort(); }
  b->cap = cap;
}

static inline void buffer_add(struct buffer *b, const void *p, size_t n) {
  buffer_reserve(b, n);
  memcpy(b->p + b->n, p, n);
  b->n += n;
}

static inline void buffer_text(struct buffer *b, const char *s) { buffer_add(b, s, strlen(s)); }

__attribute__((format(printf, 2, 3), unused))
static void buffer_format(struct buffer *b, const char *format, ...) {
  va_list a;
  va_start(a, format);
  int n = vsnprintf(NULL, 0, format, a);
  va_end(a);
  buffer_reserve(b, (size_t)n + 1);
  va_start(a, format);
  vsnprintf(b->p + b->n, (size_t)n + 1, format, a);
  va_end(a);
  b->n += (size_t)n;
}

/* Empties the buffer and gives back what a large message made it grow to. */
static inline void buffer_clear(struct buffer *b) {
  b->n = 0;
  if (b->cap > SHRINK_ABOVE) { free(b->p); memset(b, 0, sizeof *b); }
}

/* ---- JSON: finding members without building anything ---- */

static inline const char *json_space(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

/* p at the opening quote; the place after the closing one, or end. */
static inline const char *json_string_end(const char *p, const char *end) {
  const char *start = ++p;
  for (;;) {
    const char *quote = p < end ? memchr(p, '"', (size_t)(end - p)) : NULL;
    if (!quote) return end;
    const char *b = quote;
    while (b > start && b[-1] == '\\') b--;
    if (((quote - b) & 1) == 0) return quote + 1;
    p = quote + 1;
  }
}

/* p at a value; the place after it, or end. */
static inline const char *json_value_end(const char *p, const char *end) {
  if (p >= end) return end;
  if (*p == '"') return json_string_end(p, end);
  if (*p == '{' || *p == '[') {
    for (int depth = 0; p < end;) {
      if (*p == '"') { p = json_string_end(p, end); continue; }
      if (*p == '{' || *p == '[') depth++;
      else if ((*p == '}' || *p == ']') && --depth == 0) return p + 1;
      p++;
    }
    return end;
  }
  while (p < end && !strchr(",}] \t\r\n", *p)) p++;
  return p;
}

/* The value of a member of an object; {NULL, 0} when there is none. Names with escapes are not recognised. */
static inline struct span json_member(struct span object, const char *name) {
  struct span none = {NULL, 0};
  if (!object.p) return none;
  size_t length = strlen(name);
  const char *end = object.p + object.n, *p = json_space(object.p, end);
  if (p >= end || *p++ != '{') return none;
  for (;;) {
    p = json_space(p, end);
    if (p < end && *p == ',') p = json_space(p + 1, end);
    if (p >= end || *p != '"') return none;
    const char *key = p + 1;
    p = json_string_end(p, end);
    size_t key_length = (size_t)(p - key) - 1;
    p = json_space(p, end);
    if (p >= end || *p != ':') return none;
    p = json_space(p + 1, end);
    const char *value = p;
    p = json_value_end(p, end);
    if (key_length == length && !memcmp(key, name, length)) {
      struct span found = {value, (size_t)(p - value)};
      return found;
    }
  }
}

static inline int json_is(struct span value, const char *text) {
  size_t n = strlen(text);
  return value.n == n && value.p && !memcmp(value.p, text, n);
}

static inline int json_is_string(struct span value, const char *text) {
  size_t n = strlen(text);
  return value.n == n + 2 && value.p[0] == '"' && !memcmp(value.p + 1, text, n);
}

/* ---- HTTP/1.1: one message at a time out of a growing buffer ---- */

enum framing { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_TRAILER, UNTIL_CLOSE, COMPLETE };

struct message {
  struct buffer in;       /* head, then decoded body, then bytes not looked at yet */
  enum framing state;
  size_t head;            /* length of the head with its blank line */
  size_t body_end;        /* where the decoded body ends in `in` */
  size_t at;              /* HEAD: where to go on searching; otherwise the first byte not decoded */
  uint64_t left;          /* bytes the body, or the chunk with its CRLF, still lacks */
  int status;             /* of a response */
  int closes;             /* the peer ends the connection after this message */
};

static inline struct span message_header(const struct message *m, const char *name) {
  size_t length = strlen(name);
  const char *p = m->in.p, *end = m->in.p + m->head;
  struct span value = {NULL, 0};
  while (p < end) {
    const char *line_end = memchr(p, '\n', (size_t)(end - p));
    if (!line_end) line_end = end;
    if ((size_t)(line_end - p) > length && p[length] == ':' && !strncasecmp(p, name, length)) {
      const char *v = p + length + 1, *z = line_end;
      while (v < z && (*v == ' ' || *v == '\t')) v++;
      while (z > v && (z[-1] == '\r' || z[-1] == ' ' || z[-1] == '\t')) z--;
      value.p = v;
      value.n = (size_t)(z - v);
      return value;
    }
    p = line_end + 1;
  }
  return value;
}

static inline int span_has_prefix(struct span s, const char *prefix) {
  size_t n = strlen(prefix);
  return s.n >= n && !strncasecmp(s.p, prefix, n);
}

static inline struct span message_body(const struct message *m) {
  struct span body = {m->in.p + m->head, m->body_end - m->head};
  return body;
}

static inline int message_read_head(struct message *m, int is_response) {
  m->closes = span_has_prefix(message_header(m, "connection"), "close");
  m->at = m->body_end = m->head;
  m->left = 0;
  if (is_response) {
    if (m->head < 12 || memcmp(m->in.p, "HTTP/1.", 7)) return -1;
    m->status = atoi(m->in.p + 9);
    if (m->status == 204 || m->status == 304) { m->state = COMPLETE; return 0; }
  }
  struct span length = message_header(m, "content-length");
  if (span_has_prefix(message_header(m, "transfer-encoding"), "chunked")) m->state = CHUNK_SIZE;
  else if (length.p) {
    m->left = strtoull(length.p, NULL, 10);
    if (m->left > BODY_LIMIT) return -1;
    m->state = LENGTH;
  } else m->state = is_response ? UNTIL_CLOSE : COMPLETE;
  return 0;
}

/* Works on what has arrived. 1: a whole message is there; 0: more is needed; -1: not HTTP as we speak it. */
static inline int message_advance(struct message *m, int is_response) {
  struct buffer *in = &m->in;
  for (;;) {
    size_t have = in->n - m->at;
    switch (m->state) {
      case HEAD: {
        size_t from = m->at > 3 ? m->at - 3 : 0;
        char *blank = in->n > from ? memmem(in->p + from, in->n - from, "\r\n\r\n", 4) : NULL;
        if (!blank) { m->at = in->n; return in->n > HEAD_LIMIT ? -1 : 0; }
        m->head = (size_t)(blank - in->p) + 4;
        if (message_read_head(m, is_response)) return -1;
        if (is_response && m->status / 100 == 1) { /* an interim answer: the real one follows */
          memmove(in->p, in->p + m->head, in->n - m->head);
          in->n -= m->head;
          m->at = 0;
          m->state = HEAD;
        }
        break;
      }
      case LENGTH: {
        uint64_t k = have < m->left ? have : m->left;
        m->at += k;
        m->left -= k;
        m->body_end = m->at;
        if (m->left) return 0;
        m->state = COMPLETE;
        break;
      }
      case CHUNK_SIZE: {
        char *line_end = have ? memchr(in->p + m->at, '\n', have) : NULL;
        if (!line_end) goto compact;
        m->left = strtoull(in->p + m->at, NULL, 16);
        m->at = (size_t)(line_end - in->p) + 1;
        if (m->left > BODY_LIMIT || m->body_end > BODY_LIMIT) return -1;
        m->state = m->left ? CHUNK_DATA : CHUNK_TRAILER;
        if (m->left) m->left += 2; /* the CRLF that ends the chunk */
        break;
      }
      case CHUNK_DATA: {
        uint64_t k = have < m->left ? have : m->left, data = m->left > 2 ? m->left - 2 : 0;
        if (data > k) data = k;
        memmove(in->p + m->body_end, in->p + m->at, data);
        m->body_end += data;
        m->at += k;
        m->left -= k;
        if (m->left) goto compact;
        m->state = CHUNK_SIZE;
        break;
      }
      case CHUNK_TRAILER: {
        char *line_end = have ? memchr(in->p + m->at, '\n', have) : NULL;
        if (!line_end) goto compact;
        int blank = line_end - (in->p + m->at) <= 1;
        m->at = (size_t)(line_end - in->p) + 1;
        if (blank) m->state = COMPLETE;
        break;
      }
      case UNTIL_CLOSE:
        m->at = m->body_end = in->n;
        return m->body_end > BODY_LIMIT ? -1 : 0;
      case COMPLETE:
        return 1;
    }
  }
compact: /* close the gap the chunk heads left, so that the buffer grows with the data only */
  memmove(in->p + m->body_end, in->p + m->at, in->n - m->at);
  in->n -= m->at - m->body_end;
  m->at = m->body_end;
  return 0;
}

/* The connection ended: 1 when that completes the message. */
static inline int message_close(struct message *m) {
  if (m->state != UNTIL_CLOSE) return 0;
  m->at = m->body_end = m->in.n;
  m->closes = 1;
  m->state = COMPLETE;
  return 1;
}

/* Drops the complete message; what came after it stays. */
static inline void message_next(struct message *m) {
  size_t rest = m->in.n - m->at;
  if (rest) memmove(m->in.p, m->in.p + m->at, rest);
  m->in.n = rest;
  if (!rest) buffer_clear(&m->in);
  m->at = m->body_end = m->head = 0;
  m->state = HEAD;
}

#endif
