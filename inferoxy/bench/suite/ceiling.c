/* What the loopback and the load generator allow: an HTTP/1.1 server that reads each request's body into memory and
 * gives a fixed answer. One thread, epoll, keep-alive; no chunked bodies, no pipelining.
 *
 *   ceiling PORT ANSWER_BYTES
 *
 * Prints the port it listens on (PORT 0: any free one) and ends at the end of its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_LIMIT = 16384, ANSWER_LIMIT = 65536, EVENTS = 128 };

/* A connection reads a head, then `missing` bytes of body, then answers and begins again. */
struct connection {
    int fd;
    size_t head_size;
    size_t body_size;     /* of the request being read */
    size_t missing;       /* bytes of it that are still to come */
    size_t capacity;      /* of `body` */
    char *body;
    char head[HEAD_LIMIT];
};

static char answer[ANSWER_LIMIT + 256];
static size_t answer_size;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c->body);
    free(c);
}

static size_t content_length(const char *head, const char *end)
{
    static const char name[] = "content-length:";
    for (const char *line = head; line < end; line++) {
        if (!strncasecmp(line, name, sizeof name - 1))
            return strtoull(line + sizeof name - 1, NULL, 10);
        line = memchr(line, '\n', (size_t)(end - line));
        if (!line)
            break;
    }
    return 0;
}

/* Send the answer and expect the next head; 0 when the connection is of no more use. */
static int reply(struct connection *c)
{
    c->head_size = c->body_size = 0;
    return send(c->fd, answer, answer_size, MSG_NOSIGNAL) == (ssize_t)answer_size;
}

/* Read what is there; 0 when the connection is of no more use. */
static int serve(struct connection *c)
{
    if (c->missing) {
        ssize_t n = recv(c->fd, c->body + c->body_size - c->missing, c->missing, 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->missing -= (size_t)n;
        return c->missing ? 1 : reply(c);
    }
    ssize_t n = recv(c->fd, c->head + c->head_size, HEAD_LIMIT - c->head_size, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->head_size += (size_t)n;
    char *end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
    if (!end)
        return c->head_size < HEAD_LIMIT;
    end += 4;
    c->body_size = content_length(c->head, end);
    if (c->body_size > c->capacity) {
        free(c->body);
        c->body = malloc(c->capacity = c->body_size);
        if (!c->body)
            fail("malloc");
    }
    size_t here = (size_t)(c->head + c->head_size - end);
    if (here > c->body_size)
        return 0; /* pipelined */
    memcpy(c->body, end, here);
    c->missing = c->body_size - here;
    return c->missing ? 1 : reply(c);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: ceiling PORT ANSWER_BYTES\n");
        return 2;
    }
    int size = atoi(argv[2]), on = 1;
    if (size < 0 || size > ANSWER_LIMIT) {
        fprintf(stderr, "ceiling: expected at most %d answer bytes, found %d\n", ANSWER_LIMIT, size);
        return 2;
    }
    answer_size = (size_t)sprintf(answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size);
    memset(answer + answer_size, 'x', (size_t)size);
    answer_size += (size_t)size;

    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t where_size = sizeof where;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0)
        fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 1024))
        fail("listen");
    getsockname(listener, (struct sockaddr *)&where, &where_size);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);

    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = NULL; /* standard input */
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        fail("standard input, expected a pipe");
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr)
                return 0;
            if (events[i].data.ptr != &listener) {
                struct connection *c = events[i].data.ptr;
                if (!serve(c))
                    drop(c);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0)
                continue;
            struct connection *c = calloc(1, sizeof *c);
            if (!c)
                fail("calloc");
            c->fd = fd;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            event.data.ptr = c;
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
